// Every number the engine is tuned by: default, unit, meaning, reason.
#pragma once

#include <chrono>

#include "policy/types.h"

namespace balloon::policy {

enum class Surplus : std::uint8_t {
  headroom,  ///< kept free on the host: ready at once for whoever asks next
  guests,    ///< given to guests by weight: page cache
};

struct Tunables {
  /// Host memory that guests never get, beyond what the host's own processes use now. Covers VMM overhead, page tables,
  /// sockets and a burst of the host's own. 5 % of an 8 GiB host.
  Bytes host_reserve = 400ULL << 20;
  /// What a guest should have available beyond what it uses: the larger of the two. 15 % is about Hyper-V's default
  /// memory buffer (20 %) less what fast rescue makes needless.
  double margin_ratio = 0.15;
  Bytes margin_min = 128ULL << 20;
  /// A guest's growth is expected to go on for this long: covers one statistics interval, one control period and the
  /// balloon's own time.
  std::chrono::nanoseconds growth_horizon = std::chrono::seconds(3);
  /// Need falls no faster than by half in this time, so that a pause in a load does not cost it its memory.
  std::chrono::nanoseconds need_half_life = std::chrono::seconds(10);
  /// Changes smaller than the larger of these are not made (unless a guest is short).
  double deadband_ratio = 0.02;
  Bytes deadband_min = 16ULL << 20;
  /// A guest that nobody presses for memory shrinks by at most this share of its size a second: its cache has time to
  /// prove itself useful. When others are short the limit does not apply.
  double shrink_ratio_per_second = 0.05;
  /// A guest is not shrunk within this time of being grown, unless others are short (and the reverse never waits).
  std::chrono::nanoseconds hold = std::chrono::seconds(10);
  /// Statistics older than this are not acted on: the guest's size is held.
  std::chrono::nanoseconds stale_after = std::chrono::seconds(10);
  /// A balloon that has made no progress towards its target for this long is stuck: what it has is counted as it is.
  std::chrono::nanoseconds stuck_after = std::chrono::seconds(10);
  Surplus surplus = Surplus::headroom;
};

}  // namespace balloon::policy
