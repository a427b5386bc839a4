// SPDX-License-Identifier: Apache-2.0
// Every number the engine is tuned by: default, unit, meaning, reason.
#pragma once

#include <chrono>

#include "policy/types.h"

namespace balloon::policy::peers::balloond1 {

enum class Surplus : std::uint8_t {
  headroom,  ///< free memory goes to the host; guests keep the page cache they have while nobody wants it
  guests,    ///< given to guests by weight, for more page cache
};

/// When the host's memory state changes, by its free memory. A state is entered below its own threshold and
/// left only above the next milder one, so that it does not flap. The ratios are of the minimum that should
/// be free.
struct HostStateRules {
  /// The minimum that should be free; 0: sliding_minimum_free of the host's memory.
  Bytes minimum_free{};
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
    unsigned percent;
  };
  constexpr Step steps[] = {{4 * kGiB, 6}, {8 * kGiB, 4}, {16 * kGiB, 2}, {Bytes::max(), 1}};
  Bytes minimum{};
  for (const Step& step : steps) {
    const Bytes part = host_memory < step.size ? host_memory : step.size;
    minimum += part / 100 * step.percent;
    host_memory -= part;
  }
  return minimum;
}

/// What the engine does while the host's memory is in one state.
struct StateActions {
  /// Of memory that nobody waits for, as a share of a guest's boot memory; at least the engine's own.
  double shrink_ratio_per_second = 0;
  double margin_factor = 1;   ///< of every guest's margin: Hyper-V gives up its buffer first, too
  bool pressed_give = false;  ///< guests under pressure give at once, not after all idle memory is asked for
  bool ksm = false;           ///< samepage merging runs, whatever the guests need
  bool full_speed = false;    ///< no hold and no step: every guest is asked for all above its share
};

struct HostStateActions {
  StateActions normal;
  /// Something on the host takes memory: idle memory comes in twice as fast.
  StateActions tight{.shrink_ratio_per_second = 0.10, .ksm = true};
  /// The next thing to happen is host swap, which hits guests at random: that is worse than any balloon.
  StateActions critical{.shrink_ratio_per_second = 0.25,
                        .margin_factor = 0.5,
                        .pressed_give = true,
                        .ksm = true,
                        .full_speed = true};
  StateActions emergency{.shrink_ratio_per_second = 1.0,
                         .margin_factor = 0.25,
                         .pressed_give = true,
                         .ksm = true,
                         .full_speed = true};
};

struct Tunables {
  /// Host memory that guests never get, beyond what the host's own processes use now. Covers VMM overhead,
  /// page tables, sockets and a burst of the host's own. 5 % of an 8 GiB host.
  Bytes host_reserve = 400 * kMiB;
  /// How fast a budget that was low may rise again, as a share of the host's memory a second. It falls at
  /// once.
  double budget_rise_ratio_per_second = 0.05;

  /// What a guest should have available beyond what it uses: the larger of the two. Hyper-V's default memory
  /// buffer is 20 %; fast rescue makes some of that needless.
  double margin_ratio = 0.15;
  Bytes margin_min = 128 * kMiB;
  /// A guest's growth and swap traffic are expected to go on for this long: covers one statistics interval,
  /// one control period and the balloon's own time.
  std::chrono::nanoseconds growth_horizon = std::chrono::seconds(3);
  /// A guest with less than this share of its size available is under pressure: it is not shrunk while others
  /// are idle.
  double pressure_ratio = 0.05;
  /// So is one that reads back more than this many bytes a second from its swap: it lacks what it had (Senpai
  /// holds swap traffic of a healthy workload to 1 MiB/s).
  double pressure_swap_in = 1 << 20;
  /// Or one that takes more major faults a second than this while little of it is free: it reads back page
  /// cache that it had. 20 of them, at 128 KiB of read-ahead each, are 2.5 MiB a second.
  double pressure_major_faults = 20;
  /// Or one whose allocations stall more often a second than this and look at 1 MiB of pages a second doing
  /// so (stalls without scans are a cgroup's own limit, not the guest's: Linux 6.12's counters).
  double pressure_alloc_stalls = 10;
  double pressure_direct_scans = 256;  ///< pages a second
  /// Or one whose process waits for memory on the host for more than this share of the time (cgroup PSI).
  double pressure_host_some = 0.10;
  /// Or one whose cgroup reads back more pages a second than this: 4 MiB/s.
  double pressure_host_refaults = 1024;
  /// Below this it is critical: its need is unknown, since it cannot use what it does not have, and is taken
  /// as a multiple of what it has (or of a quarter of its maximum), in one step: a guest that is let out bit
  /// by bit may die before it is out. With 4 every guest is let out to its maximum. 2 % is near the kernel's
  /// own watermarks (vm.min_free_kbytes and its boosts) for guests of 1 to 4 GiB.
  double critical_ratio = 0.02;
  double critical_growth = 4;
  /// A guest whose kernel killed for want of memory counts as critical for this long.
  std::chrono::nanoseconds oom_memory = std::chrono::seconds(10);
  /// Need falls no faster than by half in this time, so that a pause in a load does not cost it its memory.
  std::chrono::nanoseconds need_half_life = std::chrono::seconds(10);
  /// What a guest needed at its peaks it may need again: what it needed in this window of
  /// time and the one before comes before others' page cache. Loads that come and go are rarely further
  /// apart.
  std::chrono::nanoseconds peak_window = std::chrono::minutes(10);
  /// What a guest has swapped out and not in again counts as need, for about this long: it may have been
  /// freed since.
  std::chrono::nanoseconds swapped_half_life = std::chrono::minutes(2);

  /// Page cache that proved to be in use (taking it brought major faults) counts as need, for about this
  /// long: then it is tried again.
  std::chrono::nanoseconds cache_half_life = std::chrono::minutes(10);
  /// What a guest cannot have touched it cannot use: more than it has resident and swapped on the host, by
  /// the larger of these, is a lie. Covers what a kernel sets aside without touching it, and the age of a
  /// sample.
  double untouched_ratio = 0.06;
  Bytes untouched_min = 64 * kMiB;

  /// A guest that says it has next to nothing available while a good part of it is page cache, and that shows
  /// no sign of want (no swapping, faults or stalls) for this long, is doubted: half of the cache is taken to
  /// be available. If it was true after all, the first sign of want ends the doubt.
  std::chrono::nanoseconds doubt_after = std::chrono::seconds(30);
  /// The good part: less cache than this could be a tmpfs.
  double doubt_cache_ratio = 0.25;

  /// A guest is grown once less than this part of its margin is left, and then gets all of it: so that small
  /// changes of a load do not each move its balloon.
  double margin_low = 0.5;
  /// Changes smaller than the larger of these are not made (unless a guest is under pressure).
  double deadband_ratio = 0.02;
  Bytes deadband_min = 16 * kMiB;
  /// A guest that nobody presses for memory shrinks by at most this share of its boot memory a second: its
  /// cache has time to prove itself useful. When others wait for memory the limit does not apply.
  double shrink_ratio_per_second = 0.05;
  /// A guest is not shrunk within this time of being grown, unless others wait (the reverse never waits).
  std::chrono::nanoseconds hold = std::chrono::seconds(10);
  /// Memory that was taken from a guest and had to be given back was not idle: it is then held for this
  /// multiple of the time between two growths, at most hold_max, unless others wait. A load that comes and
  /// goes keeps its memory while nobody else needs it.
  double hold_growth = 1.5;
  std::chrono::nanoseconds hold_max = std::chrono::minutes(10);
  /// Of the memory that guests may have, this part is kept free for whoever needs it next, by taking idle
  /// memory even from guests that are held. A burst of a 2 GiB guest is met from it without waiting.
  double headroom_ratio = 0.05;

  /// Statistics older than this are not acted on: the guest's size is held.
  std::chrono::nanoseconds stale_after = std::chrono::seconds(10);
  /// A balloon that has freed nothing on its way to its target for this long is stuck: what it has is counted
  /// as it is, and its target is put there, because a driver that cannot reach its target burns guest CPU
  /// retrying five times a second.
  std::chrono::nanoseconds stuck_after = std::chrono::seconds(10);
  /// A balloon that frees less a second than this is as good as one that frees nothing: a page every five
  /// seconds would else count as progress for ever.
  Bytes progress_per_second = 512 * kKiB;
  /// A stuck balloon is tried again after this, and after twice as long each time that fails.
  std::chrono::nanoseconds retry_after = std::chrono::seconds(30);
  std::chrono::nanoseconds retry_max = std::chrono::minutes(16);
  /// A guest without statistics for this long is judged by what the host sees of it.
  std::chrono::nanoseconds blind_after = std::chrono::seconds(60);
  /// How fast a balloon frees memory, bytes a second, until it has shown how fast it is: half of what
  /// virtio-balloon does with touched memory (0.95 GiB/s, HyperAlloc, EuroSys'25).
  double balloon_speed = 512.0 * (1 << 20);

  Surplus surplus = Surplus::headroom;

  HostStateRules states;
  HostStateActions actions;
  /// Host swap traffic, bytes a second, from which on its memory counts as tight, and as critical. wasp-agent
  /// alerts at 200 pages a second.
  double swap_tight = 1 << 20;
  double swap_critical = 16 << 20;
  /// Share of the time that some and all tasks of the host wait for memory (PSI avg10), likewise.
  double pressure_tight = 0.10;
  double pressure_critical = 0.05;

  /// Part of KSM's profit that guests may have; the rest waits for pages to be unmerged when they are written
  /// to.
  double ksm_credit = 0.5;
  /// Merging runs while less than this part of the host's memory is left beyond what guests need, and stops
  /// when half as much again is (MOM and ksmtuned: 20 %).
  double ksm_ratio = 0.20;
  /// How long a scan of all that can be merged should take: the kernel's own advisor aims at 200 s.
  std::chrono::nanoseconds ksm_scan = std::chrono::seconds(200);
  /// The same while the host's memory is critical.
  std::chrono::nanoseconds ksm_scan_critical = std::chrono::seconds(60);
};

}  // namespace balloon::policy::peers::balloond1
