#include "vmm/devices/block/block.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <utility>

#include "base/log.h"
#include "vmm/virtio/iovecs.h"

namespace balloon::vmm {
namespace {

constexpr std::array<std::uint16_t, 1> kQueueSizes = {Block::kQueueSize};
constexpr std::uint64_t kHeaderSize = sizeof(BlockHeader);
constexpr std::uint64_t kStatusSize = 1;

/// The start of virtio_blk_config (5.2.4), up to the last field whose feature is offered.
struct ConfigSpace {
  std::uint64_t capacity;
  std::uint32_t size_max;
  std::uint32_t seg_max;
  std::uint32_t geometry;
  std::uint32_t blk_size;
};
static_assert(sizeof(ConfigSpace) == 24);

}  // namespace

Result<std::unique_ptr<VirtioDevice>> make_block(const BlockConfig& config, const GuestMemory& /*memory*/,
                                                 EventLoop& loop) {
  auto block = Block::create(config, loop);
  if (!block) return std::unexpected(std::move(block.error()));
  return std::move(*block);
}

Result<std::unique_ptr<Block>> Block::create(const BlockConfig& config, EventLoop& loop) {
  if (config.serial.size() > kSerialMax) {
    return fail(fmt::format("disk image {}: serial \"{}\" has {} bytes, at most {} are possible", config.path,
                            config.serial, config.serial.size(), kSerialMax));
  }
  auto image = Image::open(config.path, config.read_only);
  if (!image) return std::unexpected(std::move(image.error()));
  std::unique_ptr<Block> block(new Block(config, std::move(*image)));
  auto queues = DeviceQueues::create(*block, loop);
  if (!queues) return std::unexpected(std::move(queues.error()));
  block->queues_ = std::move(*queues);
  return block;
}

Block::Block(const BlockConfig& config, Image image)
    : config_(config),
      name_("block " + std::filesystem::path(config.path).filename().string()),
      image_(std::move(image)),
      capacity_(image_.size() / kSectorSize) {}

Block::~Block() {
  {
    const std::lock_guard lock(mutex);
    if (queues_) queues_->stop();
  }
  queues_.reset();
}

std::uint64_t Block::offered_features() const {
  return kFeatureIndirectDesc | kFeatureEventIdx | kFeatureSegMax | kFeatureBlkSize | kFeatureFlush |
         (config_.read_only ? kFeatureReadOnly : 0);
}

std::span<const std::uint16_t> Block::queue_sizes() const { return kQueueSizes; }

std::uint32_t Block::config_size() const { return sizeof(ConfigSpace); }

void Block::read_config(std::uint32_t offset, std::span<std::byte> into) {
  const ConfigSpace space{.capacity = capacity_,
                          .size_max = 0,
                          .seg_max = kSegMax,
                          .geometry = 0,
                          .blk_size = static_cast<std::uint32_t>(kSectorSize)};
  std::memcpy(into.data(), std::as_bytes(std::span(&space, 1)).data() + offset, into.size());
}

void Block::write_config(std::uint32_t /*offset*/, std::span<const std::byte> /*from*/) {}

void Block::activate(std::uint64_t /*features*/, std::vector<std::unique_ptr<VirtQueue>> queues) {
  queues_->start(host(), std::move(queues));
}

void Block::process_queue(std::uint16_t index) {
  queues_->serve(index, [this, index](VirtQueue& queue, Chain chain) {
    serve(queue, std::move(chain));
    // At once: a slow request behind it should not delay this one's waiter.
    queues_->notify(index);
  });
}

void Block::reset() { queues_->stop(); }

void Block::serve(VirtQueue& queue, Chain chain) {
  const std::uint64_t writable = chain.writable_size();
  if (writable < kStatusSize) {
    ++counters_.malformed;
    queue.put(std::move(chain), 0);
    return;
  }
  std::uint64_t written = 0;
  const auto status = static_cast<std::byte>(execute(chain, written));
  if (status != std::byte{0}) ++counters_.failed;
  chain.write(writable - kStatusSize, std::span(&status, 1));
  queue.put(std::move(chain), static_cast<std::uint32_t>(written + kStatusSize));
}

BlockStatus Block::execute(const Chain& chain, std::uint64_t& written) {
  const auto header = read_header(chain);
  if (!header) return BlockStatus::io_error;
  switch (header->type) {
    case BlockType::in:
      return read(chain, *header, written);
    case BlockType::out:
      return write(chain, *header);
    case BlockType::flush:
      return flush();
    case BlockType::get_id:
      return get_id(chain, written);
  }
  return BlockStatus::unsupported;
}

BlockStatus Block::read(const Chain& chain, const BlockHeader& header, std::uint64_t& written) {
  const std::uint64_t size = chain.writable_size() - kStatusSize;
  const auto offset = image_offset(header.sector, size, capacity_);
  if (!offset) return BlockStatus::io_error;
  to_iovecs(chain.writable(), 0, size, iovecs_);
  const auto result = image_.read(iovecs_, *offset, written);
  counters_.read += written;
  return failed(result);
}

BlockStatus Block::write(const Chain& chain, const BlockHeader& header) {
  const std::uint64_t size = chain.readable_size() - kHeaderSize;
  const auto offset = image_offset(header.sector, size, capacity_);
  if (!offset || config_.read_only) return BlockStatus::io_error;
  to_iovecs(chain.readable(), kHeaderSize, size, iovecs_);
  std::uint64_t done = 0;
  const auto result = image_.write(iovecs_, *offset, done);
  counters_.written += done;
  return failed(result);
}

BlockStatus Block::flush() {
  ++counters_.flushes;
  return failed(image_.flush());
}

BlockStatus Block::get_id(const Chain& chain, std::uint64_t& written) {
  std::array<std::byte, kSerialMax> id{};
  std::ranges::copy(std::as_bytes(std::span(config_.serial)), id.begin());
  const std::uint64_t room = std::min<std::uint64_t>(chain.writable_size() - kStatusSize, id.size());
  written = chain.write(0, std::span(id).first(room));
  return BlockStatus::ok;
}

BlockStatus Block::failed(const Result<void>& result) {
  if (result) return BlockStatus::ok;
  if (const auto times = failures_.happened()) {
    log::error("{}: {} ({} times)", name_, result.error().message, *times);
  }
  return BlockStatus::io_error;
}

BlockCounters Block::counters() const {
  const std::lock_guard lock(mutex);
  return counters_;
}

}  // namespace balloon::vmm
