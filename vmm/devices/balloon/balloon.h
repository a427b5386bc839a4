// SPDX-License-Identifier: Apache-2.0
// virtio-balloon (virtio 1.2, 5.5): inflate, deflate, statistics, free page hinting and reporting. What is
// done on each queue is in queues.cc.
//
// Sizes of the guest ("target", "actual") are what is left to it; the config space counts the pages taken
// from it.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "vmm/devices/balloon/balloon_control.h"
#include "vmm/devices/balloon/balloon_device.h"
#include "vmm/devices/balloon/hinting.h"
#include "vmm/devices/balloon/huge_release.h"
#include "vmm/devices/balloon/huge_restore.h"
#include "vmm/devices/balloon/pace.h"
#include "vmm/devices/balloon/pfn_ranges.h"
#include "vmm/devices/balloon/stats_requests.h"
#include "vmm/memory/write_watch.h"
#include "vmm/virtio/device.h"
#include "vmm/virtio/device_queues.h"
#include "vmm/virtio/rate_limit.h"
#include "vmm/virtio/wishes.h"

namespace balloon::vmm {

class Balloon final : public VirtioDevice, public BalloonControl {
 public:
  /// In this order, but of the optional queues only those that are offered have an index, without gaps
  /// (5.5.2, as Linux numbers them): reporting is 3 without hinting. Statistics are always offered.
  enum class Queue : std::uint16_t { inflate, deflate, stats, hinting, reporting };

  // Feature bits (5.5.3). With MUST_TELL_HOST a page that is still being gathered for release can be taken
  // back in time; from a driver that refuses it pages are released at once.
  static constexpr std::uint64_t kFeatureMustTellHost = 1ULL << 0;
  static constexpr std::uint64_t kFeatureStats = 1ULL << 1;
  static constexpr std::uint64_t kFeatureDeflateOnOom = 1ULL << 2;
  static constexpr std::uint64_t kFeatureHinting = 1ULL << 3;
  static constexpr std::uint64_t kFeaturePagePoison = 1ULL << 4;
  static constexpr std::uint64_t kFeatureReporting = 1ULL << 5;

  /// Linux refuses reporting on a queue shorter than 32 (PAGE_REPORTING_CAPACITY), and inflates one chain at
  /// a time.
  static constexpr std::uint16_t kQueueSize = 128;
  /// Of a reported or hinted buffer, released at once: in small pages, a millisecond's work.
  static constexpr std::uint64_t kReleasePiece = (32 * kMiB).count();
  /// What was held back is released for a turn's time, and then, after others had theirs, further.
  static constexpr std::chrono::milliseconds kHoldBackPause{1};
  /// Pages are gathered into huge pages for no longer than this after the last ones came: the driver of a
  /// busy guest takes its time, and a target that moves down step by step (once a second) gives it pauses.
  static constexpr std::chrono::seconds kHoldBack{2};
  /// A round of hinting that takes longer is over: meanwhile the guest lacks its free pages. A guest of
  /// 100 GiB takes some seconds.
  static constexpr std::chrono::seconds kHintingLimit{30};
  /// How soon the host's pool is asked again for pages that the guest wants back.
  static constexpr std::chrono::milliseconds kPoolRetry{100};
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
  void read_config(std::uint32_t offset, std::span<std::byte> into) override REQUIRES(mutex());
  void write_config(std::uint32_t offset, std::span<const std::byte> from) override REQUIRES(mutex());
  void activate(std::uint64_t features, std::vector<std::unique_ptr<VirtQueue>> queues) override
      REQUIRES(mutex());
  void process_queue(std::uint16_t index) override REQUIRES(mutex());
  void reset() override REQUIRES(mutex());
  void reset_queue(std::uint16_t index) override REQUIRES(mutex());
  void start_queue(std::uint16_t index, std::unique_ptr<VirtQueue> queue) override REQUIRES(mutex());

  // BalloonControl
  BalloonState state() const override;
  Result<void> set_target(Bytes target) override;
  void set_stats_interval(std::chrono::nanoseconds interval) override;
  void observe(std::function<void(const BalloonStats&)> on_stats,
               std::function<void(const BalloonState&)> on_state) override;
  void request_stats(std::function<void(Result<BalloonStats>)> reply) override;
  void drop_free_pages(std::function<void(Result<Bytes>)> reply) override;
  BalloonCounters counters() const override;

 private:
  /// 5.5.4, all little-endian.
  struct ConfigSpace {
    std::uint32_t num_pages = 0;
    std::uint32_t actual = 0;  ///< guest-controlled
    std::uint32_t free_page_hint_cmd_id = 0;
    std::uint32_t poison_val = 0;  ///< guest-controlled
  };

  Balloon(const BalloonConfig& config, const GuestMemory& memory, Clock& clock);
  Result<void> make_timers(EventLoop& loop);
  Queue queue_of(std::uint16_t index) const;
  std::uint16_t index_of(Queue queue) const;
  VirtQueue* queue_at(Queue queue) const REQUIRES(mutex()) {
    return queues_ ? queues_->at(index_of(queue)) : nullptr;
  }
  bool negotiated(std::uint64_t feature) const REQUIRES(mutex()) { return (features_ & feature) != 0; }
  Progress process(std::uint16_t index, VirtQueue& queue, Work& work, TurnBudget& budget) REQUIRES(mutex());
  Progress inflate(Work& work, TurnBudget& budget) REQUIRES(mutex());
  Progress deflate(Work& work, TurnBudget& budget) REQUIRES(mutex());
  /// Gathers what of `range` is RAM.
  void give(GuestRange range) REQUIRES(mutex());
  /// How many page numbers of a chain count.
  std::uint64_t pages_in(const Work& work) REQUIRES(mutex());
  /// Whether the host has memory for `range`.
  bool take_back(GuestRange range) REQUIRES(mutex());
  void accept_stats(VirtQueue& queue, Chain chain) REQUIRES(mutex());
  void sample(const Chain& chain, Clock::Time asked) REQUIRES(mutex());
  void ask_for_stats() REQUIRES(mutex());
  Progress report(Work& work, TurnBudget& budget) REQUIRES(mutex());
  Progress hint(Work& work, TurnBudget& budget) REQUIRES(mutex());
  /// Hands the whole pages of the chain's writable buffers to `each`, a piece after the other.
  Progress for_pieces(Work& work, TurnBudget& budget, const std::function<void(GuestRange)>& each)
      REQUIRES(mutex());
  void look_for_stats(std::function<void(Result<BalloonStats>)> reply) REQUIRES(mutex());
  void begin_hinting(std::function<void(Result<Bytes>)> reply) REQUIRES(mutex());
  void end_hinting(Result<Bytes> outcome) REQUIRES(mutex());
  Bytes release(GuestRange range) REQUIRES(mutex());
  Bytes released(const Result<GuestMemory::Released>& done, GuestRange range) REQUIRES(mutex());
  void refuse(std::uint64_t pages, const char* what) REQUIRES(mutex());
  void end_hold_back() REQUIRES(mutex());
  void drop_queues() REQUIRES(mutex());
  void forget_stats(const char* why) REQUIRES(mutex());
  BalloonState current() const REQUIRES(mutex());
  /// What the driver says that the guest has.
  Bytes claimed_size() const REQUIRES(mutex());
  void tell_state() REQUIRES(mutex());
  void apply_target(std::uint32_t pages) REQUIRES(mutex());
  void pace(const BalloonState& now) const REQUIRES(mutex());
  BalloonCounters counters_now() const REQUIRES(mutex());

  const BalloonConfig config_;
  const GuestMemory& memory_;
  Clock& clock_;
  ConfigSpace space_ GUARDED_BY(mutex());
  std::uint64_t features_ GUARDED_BY(mutex()) = 0;
  BalloonCounters counters_ GUARDED_BY(mutex());
  mutable BalloonPace pace_ GUARDED_BY(mutex());
  PfnReader inflating_ GUARDED_BY(mutex());
  PfnReader deflating_ GUARDED_BY(mutex());
  HugeRelease held_back_ GUARDED_BY(mutex());
  HugeRestore restored_ GUARDED_BY(mutex());
  std::unique_ptr<EventLoop::Timer> hold_back_timer_;
  bool hold_back_ends_ GUARDED_BY(mutex()) = false;  ///< the timer is set
  Clock::Time last_inflate_ GUARDED_BY(mutex()){};
  RateLimit refusals_ GUARDED_BY(mutex());
  RateLimit failures_ GUARDED_BY(mutex());
  std::function<void(const BalloonStats&)> on_stats_ GUARDED_BY(mutex());
  std::function<void(const BalloonState&)> on_state_ GUARDED_BY(mutex());
  BalloonState told_ GUARDED_BY(mutex());  ///< last passed to on_state_
  struct Shown {
    BalloonState state;
    std::uint32_t targets_posted = 0;  ///< and not applied: the state has the last one's already
  };
  Published<Shown> shown_;
  std::unique_ptr<Wishes> wishes_;
  std::unique_ptr<DeviceQueues> queues_ PT_GUARDED_BY(mutex());
  StatsRequests stats_requests_ GUARDED_BY(mutex());
  /// The buffer that the guest parks here until we want fresh values: giving it back is the request.
  std::optional<Chain> held_stats_ GUARDED_BY(mutex());
  std::unique_ptr<EventLoop::Timer> stats_timer_;
  bool deflate_waits_ GUARDED_BY(mutex()) = false;  ///< for pages of the host's pool
  std::unique_ptr<EventLoop::Timer> pool_timer_;
  HintingRounds rounds_ GUARDED_BY(mutex());
  std::unique_ptr<WriteWatch> watch_ GUARDED_BY(mutex());  ///< while a round is under way
  bool round_ends_ GUARDED_BY(mutex()) = false;            ///< with the buffer that is being looked at
  Bytes dropped_ GUARDED_BY(mutex()){};                    ///< in this round
  std::function<void(Result<Bytes>)> on_dropped_ GUARDED_BY(mutex());
  std::unique_ptr<EventLoop::Timer> hinting_timer_;
};

}  // namespace balloon::vmm
