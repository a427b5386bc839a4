// The balloon as the rest of the VMM sees it: the guest link and the monitor use this, and nothing of the
// device.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>

#include "base/bytes.h"
#include "base/error.h"

namespace balloon::vmm {

/// Statistics tags (virtio 1.2, 5.5.6.3; linux/virtio_balloon.h), in their numeric order.
enum class StatTag : std::uint16_t {
  swap_in,
  swap_out,
  major_faults,
  minor_faults,
  free_memory,
  total_memory,
  available_memory,
  disk_caches,
  hugetlb_allocations,
  hugetlb_failures,
  oom_kills,
  alloc_stalls,
  async_scans,
  direct_scans,
  async_reclaims,
  direct_reclaims,
};
inline constexpr std::size_t kStatTags = 16;

/// One statistics buffer from the guest. Values are as sent; a tag that was not sent is unset.
struct BalloonStats {
  std::chrono::system_clock::time_point sampled_at;
  Bytes actual = 0;  ///< the guest's size when the buffer arrived
  std::array<std::optional<std::uint64_t>, kStatTags> values;
};

/// The balloon's state. Sizes are what is left to the guest.
struct BalloonState {
  Bytes actual = 0;
  Bytes target = 0;
  bool driver_ready = false;
  bool has_stats = false;
  bool deflate_on_oom = false;
  bool free_page_reporting = false;
  friend bool operator==(const BalloonState&, const BalloonState&) = default;
};

/// Thread-safe.
class BalloonControl {
 public:
  virtual ~BalloonControl() = default;
  virtual BalloonState state() const = 0;
  /// Asks the guest for a size. Refused, with the reason, above the boot memory. Rounded down to 4 KiB. Not
  /// waiting.
  virtual Result<void> set_target(Bytes target) = 0;
  /// How often to ask for statistics; zero stops.
  virtual void set_stats_interval(std::chrono::nanoseconds interval) = 0;
  /// Called (from VMM threads; must not block, must not call back into this) with each statistics buffer and
  /// each change of state. One observer; an empty function removes it.
  virtual void observe(std::function<void(const BalloonStats&)> on_stats,
                       std::function<void(const BalloonState&)> on_state) = 0;
};

}  // namespace balloon::vmm
