// virtio-balloon (virtio 1.2, 5.5): inflate, deflate, statistics, free page reporting.
//
// Sizes of the guest ("target", "actual") are what is left to it; the config space counts the pages taken
// from it.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "vmm/devices/balloon/balloon_control.h"
#include "vmm/devices/balloon/huge_release.h"
#include "vmm/devices/devices.h"
#include "vmm/virtio/device.h"
#include "vmm/virtio/device_queues.h"
#include "vmm/virtio/rate_limit.h"

namespace balloon::vmm {

/// What the device did since it was made. Bytes and pages are of guest RAM.
struct BalloonCounters {
  Bytes inflated = 0;  ///< released on inflate; a page inflated twice counts twice
  Bytes reported = 0;  ///< released because the guest reported it as free
  std::uint64_t pages_deflated = 0;
  std::uint64_t pages_refused = 0;  ///< inflated or reported, but outside RAM or more than there are
  std::uint64_t reports_kept =
      0;  ///< reported buffers not released, because the guest poisons its free pages
  std::uint64_t stats_samples = 0;
  std::uint64_t stats_returned = 0;  ///< statistics buffers given back at once: one was held already
};

class Balloon final : public VirtioDevice, public BalloonControl {
 public:
  /// Queue indices: of the optional queues those that are offered are numbered without gaps (5.5.2).
  /// Statistics are always offered and reporting comes last, so that these hold whenever the queue exists.
  enum class Queue : std::uint16_t { inflate, deflate, stats, reporting };

  // Feature bits (5.5.3). With MUST_TELL_HOST a page that is still being gathered for release can be taken
  // back in time; from a driver that refuses it pages are released at once.
  static constexpr std::uint64_t kFeatureMustTellHost = 1ULL << 0;
  static constexpr std::uint64_t kFeatureStats = 1ULL << 1;
  static constexpr std::uint64_t kFeatureDeflateOnOom = 1ULL << 2;
  static constexpr std::uint64_t kFeaturePagePoison = 1ULL << 4;
  static constexpr std::uint64_t kFeatureReporting = 1ULL << 5;

  /// Linux refuses reporting on a queue shorter than 32 (PAGE_REPORTING_CAPACITY), and inflates one chain at
  /// a time.
  static constexpr std::uint16_t kQueueSize = 128;
  /// PFNs handled at once: 16 of the 256-PFN arrays that Linux sends, 16 KiB of host memory.
  static constexpr std::size_t kPfnBatch = 4096;
  /// Pages are gathered into huge pages for no longer than this after the last ones came: the driver of a
  /// busy guest takes its time, and a target that moves down step by step (once a second) gives it pauses.
  static constexpr std::chrono::seconds kHoldBack{2};
  /// Faster sampling would tell nothing new: it is more often than Linux' own counters settle.
  static constexpr std::chrono::milliseconds kStatsIntervalMin{10};

  static Result<std::unique_ptr<Balloon>> create(const BalloonConfig& config, const GuestMemory& memory,
                                                 EventLoop& loop);
  ~Balloon() override;

  // VirtioDevice
  DeviceId id() const override { return DeviceId::balloon; }
  std::string_view name() const override { return "balloon"; }
  std::uint64_t offered_features() const override;
  std::span<const std::uint16_t> queue_sizes() const override;
  std::uint32_t config_size() const override;
  void read_config(std::uint32_t offset, std::span<std::byte> into) override;
  void write_config(std::uint32_t offset, std::span<const std::byte> from) override;
  void activate(std::uint64_t features, std::vector<std::unique_ptr<VirtQueue>> queues) override;
  void process_queue(std::uint16_t index) override;
  void reset() override;

  // BalloonControl
  BalloonState state() const override;
  Result<void> set_target(Bytes target) override;
  void set_stats_interval(std::chrono::nanoseconds interval) override;
  void observe(std::function<void(const BalloonStats&)> on_stats,
               std::function<void(const BalloonState&)> on_state) override;

  BalloonCounters counters() const;

 private:
  /// 5.5.4, all little-endian.
  struct ConfigSpace {
    std::uint32_t num_pages = 0;
    std::uint32_t actual = 0;  ///< guest-controlled
    std::uint32_t free_page_hint_cmd_id = 0;
    std::uint32_t poison_val = 0;  ///< guest-controlled
  };

  Balloon(const BalloonConfig& config, const GuestMemory& memory);
  // All with the mutex held.
  void inflate(const Chain& chain);
  void deflate(const Chain& chain);
  /// Hands the pages in `chain`, as ranges, to `each`.
  void for_ranges(const Chain& chain, const std::function<void(GuestRange)>& each);
  void accept_stats(VirtQueue& queue, Chain chain);
  void sample(const Chain& chain);
  void report(const Chain& chain);
  Bytes release(GuestRange range);
  void refuse(std::uint64_t pages, const char* what);
  void request_stats();
  void drop_queues();
  BalloonState current() const;
  /// What the driver says that the guest has.
  Bytes claimed_size() const;
  void tell_state();

  const BalloonConfig config_;
  const GuestMemory& memory_;
  ConfigSpace space_;
  std::uint64_t features_ = 0;
  BalloonCounters counters_;
  std::vector<std::uint32_t> pfns_;
  std::vector<GuestRange> ranges_;
  HugeRelease held_back_;
  std::unique_ptr<EventLoop::Timer> hold_back_timer_;
  RateLimit refusals_;
  RateLimit failures_;
  std::function<void(const BalloonStats&)> on_stats_;
  std::function<void(const BalloonState&)> on_state_;
  BalloonState told_;  ///< last passed to on_state_
  bool stats_requested_ = false;
  std::unique_ptr<DeviceQueues> queues_;
  /// The buffer that the guest parks here until we want fresh values: giving it back is the request.
  std::optional<Chain> held_stats_;
  std::unique_ptr<EventLoop::Timer> stats_timer_;
};

}  // namespace balloon::vmm
