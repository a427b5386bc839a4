// SPDX-License-Identifier: Apache-2.0
// virtio-rng (virtio 1.2, 5.4): the guest hands in buffers, the host fills them with random bytes, at most so
// many a second: else a guest that only asks for randomness keeps a host CPU busy.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "vmm/devices/rng/rng_device.h"
#include "vmm/virtio/device.h"
#include "vmm/virtio/device_queues.h"
#include "vmm/virtio/rate_limit.h"
#include "vmm/virtio/token_bucket.h"

namespace balloon::vmm {

struct RngCounters {
  Bytes filled{};
  std::uint64_t waits = 0;  ///< times that the rate limit held the guest up
};

class Rng final : public VirtioDevice {
 public:
  static constexpr std::uint16_t kQueueSize = 8;  ///< Linux has one request out at a time
  /// Filled of one buffer, whatever its size: the driver asks again (5.4.6.1 lets the device fill less).
  static constexpr std::size_t kMostAtOnce = 4096;

  static Result<std::unique_ptr<Rng>> create(const RngConfig& config, EventLoop& loop);
  ~Rng() override;

  DeviceId id() const override { return DeviceId::entropy; }
  std::string_view name() const override { return "rng"; }
  std::uint64_t offered_features() const override { return kFeatureIndirectDesc | kFeatureEventIdx; }
  std::span<const std::uint16_t> queue_sizes() const override { return kQueueSizes; }
  std::uint32_t config_size() const override { return 0; }
  void read_config(std::uint32_t, std::span<std::byte>) override REQUIRES(mutex()) {}
  void write_config(std::uint32_t, std::span<const std::byte>) override REQUIRES(mutex()) {}
  void activate(std::uint64_t features, std::vector<std::unique_ptr<VirtQueue>> queues) override
      REQUIRES(mutex());
  void process_queue(std::uint16_t index) override REQUIRES(mutex());
  void reset() override REQUIRES(mutex());
  void reset_queue(std::uint16_t index) override REQUIRES(mutex()) { queues_->remove(index); }
  void start_queue(std::uint16_t index, std::unique_ptr<VirtQueue> queue) override REQUIRES(mutex()) {
    queues_->add(index, std::move(queue));
  }

  RngCounters counters() const;

 private:
  static constexpr std::array<std::uint16_t, 1> kQueueSizes = {kQueueSize};
  Rng(const RngConfig& config, Clock& clock) : clock_(clock), bucket_(config.bytes_per_second.count()) {}
  std::uint32_t fill(const Chain& chain) REQUIRES(mutex());

  Clock& clock_;
  TokenBucket bucket_ GUARDED_BY(mutex());
  RngCounters counters_ GUARDED_BY(mutex());
  RateLimit failures_ GUARDED_BY(mutex());
  std::unique_ptr<DeviceQueues> queues_ PT_GUARDED_BY(mutex());
  std::unique_ptr<EventLoop::Timer> refilled_;  ///< the bucket has tokens again
};

}  // namespace balloon::vmm
