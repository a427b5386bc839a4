// virtio-blk (virtio 1.2, 5.2) on a raw image: read, write, flush, serial number.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "vmm/devices/block/image.h"
#include "vmm/devices/block/request.h"
#include "vmm/devices/devices.h"
#include "vmm/virtio/device.h"
#include "vmm/virtio/device_queues.h"
#include "vmm/virtio/rate_limit.h"

namespace balloon::vmm {

/// What the device did since it was made.
struct BlockCounters {
  Bytes read = 0;
  Bytes written = 0;
  std::uint64_t flushes = 0;
  std::uint64_t failed = 0;     ///< answered with an error: of the image, or for what was asked
  std::uint64_t malformed = 0;  ///< without room for a status byte: nothing could be answered
};

class Block final : public VirtioDevice {
 public:
  // Feature bits (5.2.3).
  static constexpr std::uint64_t kFeatureSegMax = 1ULL << 2;
  static constexpr std::uint64_t kFeatureReadOnly = 1ULL << 5;
  static constexpr std::uint64_t kFeatureBlkSize = 1ULL << 6;
  static constexpr std::uint64_t kFeatureFlush = 1ULL << 9;

  /// A queue as deep as Linux' default for a disk without a scheduler's limit (nr_requests).
  static constexpr std::uint16_t kQueueSize = 256;
  /// Data buffers of a request: the queue's length less header and status.
  static constexpr std::uint32_t kSegMax = kQueueSize - 2;
  static constexpr std::size_t kSerialMax = 20;  ///< VIRTIO_BLK_ID_BYTES

  static Result<std::unique_ptr<Block>> create(const BlockConfig& config, EventLoop& loop);
  ~Block() override;

  DeviceId id() const override { return DeviceId::block; }
  std::string_view name() const override { return name_; }
  std::uint64_t offered_features() const override;
  std::span<const std::uint16_t> queue_sizes() const override;
  std::uint32_t config_size() const override;
  void read_config(std::uint32_t offset, std::span<std::byte> into) override;
  void write_config(std::uint32_t offset, std::span<const std::byte> from) override;
  void activate(std::uint64_t features, std::vector<std::unique_ptr<VirtQueue>> queues) override;
  void process_queue(std::uint16_t index) override;
  void reset() override;

  BlockCounters counters() const;

 private:
  Block(const BlockConfig& config, Image image);
  // All with the mutex held. Each adds the data bytes that it wrote to the chain to `written`.
  void serve(VirtQueue& queue, Chain chain);
  BlockStatus execute(const Chain& chain, std::uint64_t& written);
  BlockStatus read(const Chain& chain, const BlockHeader& header, std::uint64_t& written);
  BlockStatus write(const Chain& chain, const BlockHeader& header);
  BlockStatus flush();
  BlockStatus get_id(const Chain& chain, std::uint64_t& written);
  BlockStatus failed(const Result<void>& result);

  const BlockConfig config_;
  const std::string name_;
  const Image image_;
  const std::uint64_t capacity_;  ///< sectors
  BlockCounters counters_;
  std::vector<iovec> iovecs_;
  RateLimit failures_;
  std::unique_ptr<DeviceQueues> queues_;
};

}  // namespace balloon::vmm
