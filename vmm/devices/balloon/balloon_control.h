// SPDX-License-Identifier: Apache-2.0
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

/// What the balloon did since the machine was built. Bytes are of guest RAM.
struct BalloonCounters {
  Bytes inflated{};            ///< released on inflate; a page inflated twice counts twice
  Bytes reported{};            ///< released because the guest reported it as free
  Bytes hinted{};              ///< released because the guest hinted it as free when it was asked
  Bytes freed{};               ///< of all these, what was in the host's memory: by as much the VMM's RSS fell
  std::uint64_t releases = 0;  ///< calls to the kernel
  std::chrono::nanoseconds release_time{};  ///< spent in them
  std::uint64_t pages_deflated = 0;
  std::uint64_t deflates_delayed = 0;  ///< chains that waited for pages of the host's pool
  std::uint64_t pages_refused = 0;     ///< given back, but outside RAM or more than there are
  std::uint64_t reports_kept = 0;      ///< buffers not released, because the guest poisons its free pages
  std::uint64_t stats_samples = 0;
  std::uint64_t stats_returned = 0;  ///< statistics buffers given back at once: one was held already
  std::uint64_t rate = 0;            ///< bytes a second, either way, of the move under way or the last one
  std::uint64_t stalls = 0;  ///< times that `actual` stood still for BalloonPace::kStall off its target
  friend bool operator==(const BalloonCounters&, const BalloonCounters&) = default;
};

/// One statistics buffer from the guest. Values are as sent; a tag that was not sent is unset.
struct BalloonStats {
  std::chrono::system_clock::time_point sampled_at;
  std::chrono::nanoseconds round_trip{};  ///< from the request to the buffer's arrival
  Bytes actual{};                         ///< the guest's size when the buffer arrived
  std::array<std::optional<std::uint64_t>, kStatTags> values{};
  BalloonCounters counters{};  ///< at that moment
};

/// The balloon's state. Sizes are what is left to the guest.
struct BalloonState {
  Bytes actual{};
  Bytes target{};
  bool driver_ready = false;
  bool has_stats = false;
  bool deflate_on_oom = false;
  bool free_page_reporting = false;
  bool free_page_hinting = false;
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
  /// Asks the guest for statistics now. `reply` has values that the guest gathered after this call, or why
  /// there are none: at once, or when the driver goes away. Like an observer, it must not call back.
  virtual void request_stats(std::function<void(Result<BalloonStats>)> reply) = 0;
  /// Asks the guest which of its pages are free, and releases them (free page hinting, one round). `reply`
  /// has the bytes released, or why there was no round; likewise.
  virtual void drop_free_pages(std::function<void(Result<Bytes>)> reply) = 0;
  virtual BalloonCounters counters() const = 0;
};

}  // namespace balloon::vmm
