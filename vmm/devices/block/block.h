// SPDX-License-Identifier: Apache-2.0
// virtio-blk (virtio 1.2, 5.2): a disk image as the guest's /dev/vdX.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/devices/block/block_device.h"
#include "vmm/devices/block/disk.h"
#include "vmm/devices/block/request.h"
#include "vmm/virtio/device.h"
#include "vmm/virtio/device_queues.h"
#include "vmm/virtio/rate_limit.h"
#include "vmm/virtio/token_bucket.h"
#include "vmm/virtio/wishes.h"

namespace balloon::vmm {

class Block final : public VirtioDevice, public BlockControl {
 public:
  // Feature bits (5.2.3).
  static constexpr std::uint64_t kFeatureSizeMax = 1ULL << 1;
  static constexpr std::uint64_t kFeatureSegMax = 1ULL << 2;
  static constexpr std::uint64_t kFeatureReadOnly = 1ULL << 5;
  static constexpr std::uint64_t kFeatureBlkSize = 1ULL << 6;
  static constexpr std::uint64_t kFeatureFlush = 1ULL << 9;
  static constexpr std::uint64_t kFeatureTopology = 1ULL << 10;
  static constexpr std::uint64_t kFeatureConfigWce = 1ULL << 11;
  static constexpr std::uint64_t kFeatureMultiQueue = 1ULL << 12;
  static constexpr std::uint64_t kFeatureDiscard = 1ULL << 13;
  static constexpr std::uint64_t kFeatureWriteZeroes = 1ULL << 14;

  /// A queue as deep as Linux' default for a disk without a scheduler's limit (nr_requests).
  static constexpr std::uint16_t kQueueSize = 256;
  /// Data buffers of a request: the queue's length less header and status.
  static constexpr std::uint32_t kSegMax = kQueueSize - 2;
  /// The largest data buffer: Linux' largest request by default (max_sectors_kb, 1280) takes ten.
  static constexpr std::uint32_t kSizeMax = (128 * kKiB).count();
  /// The largest request, whatever the driver negotiated. A larger one is an I/O error.
  static constexpr std::uint64_t kMaxRequest = (32 * kMiB).count();
  static_assert(std::uint64_t{kSegMax} * kSizeMax <= kMaxRequest);
  /// Requests and bytes that are taken from the queues and not answered: as much as is under way at once, and
  /// a request more. The rest stays in the guest's memory, and costs the host none.
  static constexpr std::size_t kMostTaken = Disk::kMostPieces;
  static constexpr std::uint64_t kMostBytesTaken = Disk::kMostInFlight;
  /// Of a turn: copied in some 0.4 ms when the host's page cache has it.
  static constexpr Bytes kTurnBytes = 2 * kMiB;
  /// A request that takes so long is told of in the log: Linux' own drivers give a disk 30 s.
  static constexpr std::chrono::seconds kSlow{10};
  static constexpr std::size_t kSerialMax = 20;  ///< VIRTIO_BLK_ID_BYTES

  static Result<std::unique_ptr<Block>> create(const BlockConfig& config, std::shared_ptr<Disk> disk,
                                               EventLoop& loop);
  ~Block() override;

  DeviceId id() const override { return DeviceId::block; }
  std::string_view name() const override { return name_; }
  std::uint64_t offered_features() const override;
  std::span<const std::uint16_t> queue_sizes() const override { return queue_sizes_; }
  std::uint32_t config_size() const override;
  void read_config(std::uint32_t offset, std::span<std::byte> into) override REQUIRES(mutex());
  void write_config(std::uint32_t offset, std::span<const std::byte> from) override REQUIRES(mutex());
  void activate(std::uint64_t features, std::vector<std::unique_ptr<VirtQueue>> queues) override
      REQUIRES(mutex());
  void process_queue(std::uint16_t index) override REQUIRES(mutex());
  void reset() override REQUIRES(mutex());
  void reset_queue(std::uint16_t index) override REQUIRES(mutex());
  void start_queue(std::uint16_t index, std::unique_ptr<VirtQueue> queue) override REQUIRES(mutex());
  void settle() override REQUIRES(mutex());

  ImageInfo image() const override { return disk_->image().info(); }
  BlockCounters counters() const override { return counted_.get(); }
  IoStatus status() const override { return shown_.get().status; }
  void observe(std::function<void(const IoFailure&)> on_failure) override;
  bool holds_failed() const override { return shown_.get().holds_failed; }
  void go_on_after_failure() override;
  std::string_view engine() const { return disk_->engine(); }

 private:
  /// A request of the guest, from the queue until it is answered.
  struct Request : DiskRequest {
    std::optional<Chain> chain;
    std::uint16_t queue = 0;
    Clock::Time taken{};
    bool held = false;  ///< it failed, and waits for the guest to go on
  };

  Block(const BlockConfig& config, std::shared_ptr<Disk> disk, EventLoop& loop);
  /// Before anybody else has the device.
  Result<void> watch() NO_THREAD_SAFETY_ANALYSIS;
  std::uint16_t queue_count() const { return static_cast<std::uint16_t>(queue_sizes_.size()); }
  bool can_write_back() const { return config_.cache != BlockCache::writethrough; }

  bool full() const REQUIRES(mutex()) { return taken_ >= kMostTaken || bytes_taken_ >= kMostBytesTaken; }
  bool throttled() REQUIRES(mutex());
  /// Ends a turn: does what the disk can do now, tells the guest what is done, and sees to what is left.
  void go_on(TurnBudget& budget) REQUIRES(mutex());
  void wake_stalled() REQUIRES(mutex());
  void serve(std::uint16_t queue, Chain chain) REQUIRES(mutex());
  /// Gets the request ready for the disk; anything but nothing is its answer right away.
  std::optional<BlockStatus> prepare(Request& request) REQUIRES(mutex());
  BlockStatus get_id(Request& request) REQUIRES(mutex());
  void on_done(DiskRequest& request) REQUIRES(mutex());
  /// What becomes of a request that failed; tells of it.
  IoFailure::Action failed(const Request& request) REQUIRES(mutex());
  void forget_held(const std::function<bool(const Request&)>& meant) REQUIRES(mutex());
  void answer(Request& request, BlockStatus status) REQUIRES(mutex());
  void count(const Request& request) REQUIRES(mutex());
  /// Raises the interrupts of what was answered.
  void notify() REQUIRES(mutex());
  /// Tells of the request that takes longest, if it takes too long.
  void look_for_slow() REQUIRES(mutex());

  const BlockConfig config_;
  const std::string name_;
  EventLoop& loop_;
  const std::shared_ptr<Disk> disk_;  ///< outlives the device: a reboot makes another one on it
  std::uint64_t capacity_ = 0;        ///< sectors
  std::vector<std::uint16_t> queue_sizes_;
  bool writeback_ GUARDED_BY(mutex());
  bool resetting_ GUARDED_BY(mutex()) = false;
  BlockCounters counters_ GUARDED_BY(mutex());
  Published<BlockCounters> counted_;
  RateLimit failures_ GUARDED_BY(mutex());
  std::function<void(const IoFailure&)> on_failure_ GUARDED_BY(mutex());
  std::vector<Request*> held_ GUARDED_BY(mutex());
  struct Shown {
    IoStatus status = IoStatus::ok;
    bool holds_failed = false;
  };
  Published<Shown> shown_;

  TokenBucket bytes_ GUARDED_BY(mutex());
  TokenBucket requests_ GUARDED_BY(mutex());
  std::unique_ptr<EventLoop::Timer> throttle_;
  bool waiting_ GUARDED_BY(mutex()) = false;  ///< for the timer
  std::unique_ptr<EventLoop::Timer> watchdog_;
  bool watchdog_set_ GUARDED_BY(mutex()) = false;  ///< it runs on until it finds nothing to watch

  std::vector<std::unique_ptr<Request>> all_requests_ GUARDED_BY(mutex());
  std::vector<Request*> spare_requests_ GUARDED_BY(mutex());
  std::vector<bool> answered_ GUARDED_BY(mutex());  ///< queues with answers that the guest was not told of
  std::vector<bool> stalled_ GUARDED_BY(mutex());   ///< queues that wait until the device is less than full
  std::size_t taken_ GUARDED_BY(mutex()) = 0;
  std::uint64_t bytes_taken_ GUARDED_BY(mutex()) = 0;
  std::vector<int> watched_;
  std::unique_ptr<DeviceQueues> queues_ PT_GUARDED_BY(mutex());
};

}  // namespace balloon::vmm
