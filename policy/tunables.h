// Every number the engine is tuned by: default, unit, meaning, reason.
#pragma once

#include <chrono>

#include "policy/types.h"

namespace balloon::policy {

enum class Surplus : std::uint8_t {
  headroom,  ///< kept free on the host: ready at once for whoever asks next
  guests,    ///< given to guests by weight: page cache
};

/// When the host's memory state changes, by its free memory. A state is entered below its own threshold and
/// left only above the next milder one, so that it does not flap. The ratios are of the minimum that should
/// be free.
struct HostStateRules {
  /// The minimum that should be free; 0: sliding_minimum_free of the host's memory.
  Bytes minimum_free = 0;
  /// As ESX's memory states are entered: 100 % clear, 64 % soft, 32 % hard, 16 % low (of Mem.MinFreePct).
  double normal = 1.00;     ///< above this every other state is left
  double tight = 0.64;      ///< below this
  double critical = 0.32;   ///< below this
  double emergency = 0.16;  ///< below this
};

/// ESX's sliding scale of Mem.MinFreePct: 6 % of the first 4 GiB, 4 % of the next 8, 2 % of the next 16 and 1
/// % of the rest; 410 MiB of 8 GiB.
constexpr Bytes sliding_minimum_free(Bytes host_memory) {
  struct Step {
    Bytes size;
    Bytes percent;
  };
  constexpr Step steps[] = {{4ULL << 30, 6}, {8ULL << 30, 4}, {16ULL << 30, 2}, {~Bytes{0}, 1}};
  Bytes minimum = 0;
  for (const Step& step : steps) {
    const Bytes part = host_memory < step.size ? host_memory : step.size;
    minimum += part / 100 * step.percent;
    host_memory -= part;
  }
  return minimum;
}

struct Tunables {
  /// Host memory that guests never get, beyond what the host's own processes use now. Covers VMM overhead,
  /// page tables, sockets and a burst of the host's own. 5 % of an 8 GiB host.
  Bytes host_reserve = 400ULL << 20;
  /// How fast a budget that was low may rise again, as a share of the host's memory a second. It falls at
  /// once.
  double budget_rise_ratio_per_second = 0.05;

  /// What a guest should have available beyond what it uses: the larger of the two. Hyper-V's default memory
  /// buffer is 20 %; fast rescue makes some of that needless.
  double margin_ratio = 0.15;
  Bytes margin_min = 128ULL << 20;
  /// A guest's growth and swap traffic are expected to go on for this long: covers one statistics interval,
  /// one control period and the balloon's own time.
  std::chrono::nanoseconds growth_horizon = std::chrono::seconds(3);
  /// A guest with less than this share of its size available is under pressure: it is not shrunk while others
  /// are idle.
  double pressure_ratio = 0.05;
  /// So is one that reads back more than this many bytes a second from its swap: it lacks what it had (Senpai
  /// holds swap traffic of a healthy workload to 1 MiB/s).
  double pressure_swap_in = 1 << 20;
  /// Below this it is critical: its need is unknown, since it cannot use what it does not have, and is taken
  /// as a multiple of what it uses. 2 % is near the kernel's own watermarks (vm.min_free_kbytes and its
  /// boosts) for guests of 1 to 4 GiB.
  double critical_ratio = 0.02;
  double critical_growth = 1.5;
  /// Need falls no faster than by half in this time, so that a pause in a load does not cost it its memory.
  std::chrono::nanoseconds need_half_life = std::chrono::seconds(10);
  /// What a guest has swapped out and not in again counts as need, for about this long: it may have been
  /// freed since.
  std::chrono::nanoseconds swapped_half_life = std::chrono::minutes(2);

  /// Changes smaller than the larger of these are not made (unless a guest is under pressure).
  double deadband_ratio = 0.02;
  Bytes deadband_min = 16ULL << 20;
  /// A guest that nobody presses for memory shrinks by at most this share of its boot memory a second: its
  /// cache has time to prove itself useful. When others wait for memory the limit does not apply.
  double shrink_ratio_per_second = 0.05;
  /// A guest is not shrunk within this time of being grown, unless others wait (the reverse never waits).
  std::chrono::nanoseconds hold = std::chrono::seconds(10);

  /// Statistics older than this are not acted on: the guest's size is held.
  std::chrono::nanoseconds stale_after = std::chrono::seconds(10);
  /// A balloon that has freed nothing on its way to its target for this long is stuck: what it has is counted
  /// as it is, and its target is put there, because a driver that cannot reach its target burns guest CPU
  /// retrying five times a second.
  std::chrono::nanoseconds stuck_after = std::chrono::seconds(10);
  /// A stuck balloon is tried again after this.
  std::chrono::nanoseconds retry_after = std::chrono::seconds(30);

  Surplus surplus = Surplus::headroom;

  HostStateRules states;
};

}  // namespace balloon::policy
