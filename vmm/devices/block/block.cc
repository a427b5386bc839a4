// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/block/block.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <utility>

#include "base/log.h"
#include "vmm/virtio/iovecs.h"

namespace balloon::vmm {
namespace {

constexpr std::uint64_t kHeaderSize = sizeof(BlockHeader);
constexpr std::uint64_t kStatusSize = 1;

/// virtio_blk_config (5.2.4), up to the last field whose feature is offered. Packed: its size is no multiple
/// of 8.
struct [[gnu::packed]] ConfigSpace {
  std::uint64_t capacity;
  std::uint32_t size_max;
  std::uint32_t seg_max;
  std::uint32_t geometry;
  std::uint32_t blk_size;
  std::uint8_t physical_block_exp;
  std::uint8_t alignment_offset;
  std::uint16_t min_io_size;
  std::uint32_t opt_io_size;
  std::uint8_t writeback;
  std::uint8_t unused0;
  std::uint16_t num_queues;
  std::uint32_t max_discard_sectors;
  std::uint32_t max_discard_seg;
  std::uint32_t discard_sector_alignment;
  std::uint32_t max_write_zeroes_sectors;
  std::uint32_t max_write_zeroes_seg;
  std::uint8_t write_zeroes_may_unmap;
  std::uint8_t unused1[3];
};
static_assert(sizeof(ConfigSpace) == 60 && offsetof(ConfigSpace, writeback) == 32);

std::string_view kind_name(DiskRequest::Kind kind) {
  switch (kind) {
    case DiskRequest::Kind::read:
      return "read";
    case DiskRequest::Kind::write:
      return "write";
    case DiskRequest::Kind::flush:
      return "flush";
    case DiskRequest::Kind::discard:
      return "discard";
    case DiskRequest::Kind::zero:
      return "write of zeros";
  }
  return "";
}

}  // namespace

Result<std::shared_ptr<Disk>> open_disk(const BlockConfig& config) { return Disk::open(config, {}); }

Result<BlockDevice> make_block(const BlockConfig& config, std::shared_ptr<Disk> disk, EventLoop& loop) {
  auto block = Block::create(config, std::move(disk), loop);
  if (!block) return std::unexpected(std::move(block.error()));
  BlockControl* control = block->get();
  return BlockDevice{std::move(*block), control};
}

Result<std::unique_ptr<Block>> Block::create(const BlockConfig& config, std::shared_ptr<Disk> disk,
                                             EventLoop& loop) {
  if (config.serial.size() > kSerialMax) {
    return fail(fmt::format("disk image {}: serial \"{}\" has {} bytes, at most {} are possible", config.path,
                            config.serial, config.serial.size(), kSerialMax));
  }
  std::unique_ptr<Block> block(new Block(config, std::move(disk), loop));
  block->disk_->answer_to([self = block.get()](DiskRequest& request)
                              REQUIRES(self->mutex()) { self->on_done(request); });
  const std::uint64_t size = block->disk_->image().size();
  if (size % config.block_size != 0) {
    return fail(fmt::format("disk image {}: its size of {} bytes is no multiple of the block size {}",
                            config.path, size, config.block_size));
  }
  block->capacity_ = size / kSectorSize;
  auto queues = DeviceQueues::create(*block, loop);
  if (!queues) return std::unexpected(std::move(queues.error()));
  block->queues_ = std::move(*queues);
  BALLOON_TRY(block->watch());
  log::debug("disk image {}: {}, {}, {}", config.path, block->disk_->image().format(),
             format_bytes(Bytes{size}), block->engine());
  return block;
}

Block::Block(const BlockConfig& config, std::shared_ptr<Disk> disk, EventLoop& loop)
    : config_(config),
      name_("block " + std::filesystem::path(config.path).filename().string()),
      loop_(loop),
      disk_(std::move(disk)),
      queue_sizes_(config.queues, kQueueSize),
      writeback_(can_write_back()),
      bytes_(config.bytes_per_second.count(), config.burst_bytes.count()),
      requests_(config.requests_per_second, config.burst_requests),
      answered_(config.queues, false),
      stalled_(config.queues, false) {}

Result<void> Block::watch() {
  for (const int fd : disk_->fds()) {
    BALLOON_TRY(loop_.watch(fd, [this] {
      const MutexLock lock(mutex());
      disk_->collect();
      TurnBudget budget(TurnBudget::Clock::now(), kTurnBytes);
      go_on(budget);
    }));
    watched_.push_back(fd);
  }
  auto watchdog = loop_.timer([this] {
    const MutexLock lock(mutex());
    look_for_slow();
  });
  if (!watchdog) return fail(fmt::format("making the watchdog of {}", name_), watchdog.error());
  watchdog_ = std::move(*watchdog);
  if (!bytes_.limits() && !requests_.limits()) return {};
  auto timer = loop_.timer([this] {
    const MutexLock lock(mutex());
    throttle_->set(std::chrono::nanoseconds(0));
    waiting_ = false;
    for (std::uint16_t i = 0; i < queue_count(); ++i) process_queue(i);
  });
  if (!timer) return fail(fmt::format("making the rate limit of {}", name_), timer.error());
  throttle_ = std::move(*timer);
  return {};
}

Block::~Block() {
  throttle_.reset();
  watchdog_.reset();
  for (const int fd : watched_) loop_.unwatch(fd);
  if (queues_) {
    const MutexLock lock(mutex());
    Block::reset();
  }
  queues_.reset();
  disk_->answer_to({});
}

std::uint64_t Block::offered_features() const {
  std::uint64_t features = kFeatureIndirectDesc | kFeatureEventIdx | kFeatureSizeMax | kFeatureSegMax |
                           kFeatureBlkSize | kFeatureTopology;
  // Without them the driver knows that every write is safe when it is done (5.2.5).
  if (can_write_back()) features |= kFeatureFlush | kFeatureConfigWce;
  if (config_.queues > 1) features |= kFeatureMultiQueue;
  if (config_.read_only) return features | kFeatureReadOnly;
  return features | kFeatureWriteZeroes | (config_.discard ? kFeatureDiscard : 0);
}

std::uint32_t Block::config_size() const { return sizeof(ConfigSpace); }

void Block::read_config(std::uint32_t offset, std::span<std::byte> into) {
  const Image& image = disk_->image();
  const std::uint32_t block = config_.block_size;
  const std::uint32_t physical = std::max(disk_->physical_block(), block);
  ConfigSpace space{};
  space.capacity = capacity_;
  space.size_max = kSizeMax;
  space.seg_max = kSegMax;
  space.blk_size = block;
  space.physical_block_exp = static_cast<std::uint8_t>(std::countr_zero(physical / block));
  space.min_io_size = static_cast<std::uint16_t>(physical / block);
  // A cluster of qcow2 is allocated as one; a raw image has no favourite.
  const std::uint64_t granularity = image.discard_granularity();
  space.opt_io_size = static_cast<std::uint32_t>(granularity > physical ? granularity / block : 0);
  space.writeback = writeback_ ? 1 : 0;
  space.num_queues = queue_count();
  space.max_discard_sectors = Disk::kMaxDiscard / kSectorSize;
  space.max_discard_seg = kMaxSegments;
  space.discard_sector_alignment =
      static_cast<std::uint32_t>(std::max<std::uint64_t>(granularity, block) / kSectorSize);
  space.max_write_zeroes_sectors = Disk::kMaxZero / kSectorSize;
  space.max_write_zeroes_seg = kMaxSegments;
  space.write_zeroes_may_unmap = config_.discard ? 1 : 0;
  std::memcpy(into.data(), std::as_bytes(std::span(&space, 1)).data() + offset, into.size());
}

void Block::write_config(std::uint32_t offset, std::span<const std::byte> from) {
  constexpr std::uint32_t kPlace = offsetof(ConfigSpace, writeback);
  if (offset > kPlace || offset + from.size() <= kPlace || !can_write_back()) return;
  writeback_ = from[kPlace - offset] != std::byte{0};
}

void Block::activate(std::uint64_t features, std::vector<std::unique_ptr<VirtQueue>> queues) {
  // 5.2.5: a driver that cannot flush gets a disk that needs none.
  writeback_ = writeback_ && (features & kFeatureFlush) != 0;
  queues_->start(host(), std::move(queues));
}

void Block::reset() {
  resetting_ = true;
  disk_->cancel([](const DiskRequest&) { return true; });
  forget_held([](const Request&) { return true; });
  resetting_ = false;
  queues_->stop();
  stalled_.assign(stalled_.size(), false);
  writeback_ = can_write_back();
}

void Block::reset_queue(std::uint16_t index) {
  // What is under way is answered, as if it had been done a moment before; the rest of this queue's is
  // forgotten.
  disk_->cancel(
      [index](const DiskRequest& request) { return static_cast<const Request&>(request).queue == index; });
  notify();
  forget_held([index](const Request& request) { return request.queue == index; });
  queues_->remove(index);
  stalled_[index] = false;
  TurnBudget budget(TurnBudget::Clock::now(), kTurnBytes);
  go_on(budget);
}

void Block::start_queue(std::uint16_t index, std::unique_ptr<VirtQueue> queue) {
  queues_->add(index, std::move(queue));
}

void Block::settle() {
  // A snapshot of the guest goes with the image as it is now.
  if (const auto done = disk_->settle(); !done) log::error("{}: {}", name_, done.error().message);
  wake_stalled();
  notify();
}

void Block::process_queue(std::uint16_t index) {
  VirtQueue* queue = queues_->at(index);
  if (queue == nullptr) return;
  TurnBudget budget(TurnBudget::Clock::now(), kTurnBytes);
  disk_->work(budget);
  bool waits = false;
  do {
    queue->disable_kicks();
    while (!budget.over()) {
      stalled_[index] = full();
      waits = stalled_[index] || throttled();
      if (waits) break;
      auto chain = queue->take();
      if (!chain) {
        queues_->broken(index, chain.error());
        break;
      }
      if (!*chain) break;
      budget.take_chain();
      serve(index, std::move(**chain));
      disk_->work(budget);
    }
    disk_->submit();  // takes its time: what the guest adds meanwhile needs no kick
    budget.look_at_clock();
  } while (!budget.over() && !waits && queues_->at(index) != nullptr && queue->enable_kicks());
  if (budget.over() && !waits) queues_->come_back(index);
  disk_->collect();  // what the host's cache had is done already
  go_on(budget);
}

void Block::go_on(TurnBudget& budget) {
  while (disk_->ready() && !budget.over()) {
    disk_->work(budget);
    disk_->submit();
    budget.look_at_clock();
    disk_->collect();
  }
  // A queue that is live carries the rest on; a broken device does nothing until its reset.
  for (std::uint16_t i = 0; disk_->ready() && i < queue_count(); ++i) {
    if (queues_->at(i) == nullptr) continue;
    queues_->come_back(i);
    break;
  }
  wake_stalled();
  notify();
}

void Block::wake_stalled() {
  for (std::uint16_t i = 0; i < queue_count() && !full(); ++i) {
    if (stalled_[i]) queues_->come_back(i);
    stalled_[i] = false;
  }
}

bool Block::throttled() {
  if (!throttle_) return false;
  if (waiting_) return true;
  const auto now = loop_.clock().now();
  const auto wait = std::max(bytes_.wait(now), requests_.wait(now));
  if (wait <= std::chrono::nanoseconds(0)) return false;
  ++counters_.throttled;
  counted_.set(counters_);
  waiting_ = true;
  throttle_->set(wait);
  return true;
}

void Block::serve(std::uint16_t queue, Chain chain) {
  if (spare_requests_.empty()) {
    all_requests_.push_back(std::make_unique<Request>());
    spare_requests_.push_back(all_requests_.back().get());
  }
  Request& request = *spare_requests_.back();
  spare_requests_.pop_back();
  request.chain.emplace(std::move(chain));
  request.queue = queue;
  request.kind = DiskRequest::Kind::flush;
  request.transferred = 0;
  request.result = {};
  request.cancelled = false;
  request.buffers.clear();
  request.ranges.clear();
  if (request.chain->writable_size() < kStatusSize) {
    ++counters_.malformed;
    return answer(request, BlockStatus::ok);
  }
  if (const auto status = prepare(request)) return answer(request, *status);
  disk_->start(request);
  request.taken = loop_.clock().now();
  if (!std::exchange(watchdog_set_, true)) watchdog_->set(kSlow);
  ++taken_;
  bytes_taken_ += request.size;
}

std::optional<BlockStatus> Block::prepare(Request& request) {
  const Chain& chain = *request.chain;
  const auto header = read_header(chain);
  if (!header) return BlockStatus::io_error;
  request.durable = !writeback_;
  const bool out = header->type == BlockType::out;
  switch (header->type) {
    case BlockType::in:
    case BlockType::out: {
      const std::uint64_t size =
          out ? chain.readable_size() - kHeaderSize : chain.writable_size() - kStatusSize;
      const auto offset = image_offset(header->sector, size, capacity_);
      if (size > kMaxRequest || !offset || (out && config_.read_only)) return BlockStatus::io_error;
      request.kind = out ? DiskRequest::Kind::write : DiskRequest::Kind::read;
      request.offset = *offset;
      to_iovecs(out ? chain.readable() : chain.writable(), out ? kHeaderSize : 0, size, request.buffers);
      bytes_.spend(size);
      requests_.spend(1);
      return std::nullopt;
    }
    case BlockType::flush:
      return std::nullopt;
    case BlockType::get_id:
      return get_id(request);
    case BlockType::discard:
    case BlockType::write_zeroes: {
      if (config_.read_only) return BlockStatus::io_error;
      if (header->type == BlockType::discard && !config_.discard) return BlockStatus::unsupported;
      const BlockStatus status = read_segments(chain, header->type, capacity_, request);
      if (status != BlockStatus::ok) return status;
      request.may_unmap = request.may_unmap && config_.discard;
      requests_.spend(1);
      return std::nullopt;
    }
  }
  return BlockStatus::unsupported;
}

BlockStatus Block::get_id(Request& request) {
  std::array<std::byte, kSerialMax> id{};
  std::ranges::copy(std::as_bytes(std::span(config_.serial)), id.begin());
  const std::uint64_t room = std::min<std::uint64_t>(request.chain->writable_size() - kStatusSize, id.size());
  request.kind = DiskRequest::Kind::read;  // it wrote to the guest
  request.transferred = request.chain->write(0, std::span(id).first(room));
  return BlockStatus::ok;
}

void Block::on_done(DiskRequest& done) {
  auto& request = static_cast<Request&>(done);
  --taken_;
  bytes_taken_ -= request.size;
  if (request.cancelled) return answer(request, BlockStatus::io_error);
  if (!request.result) {
    switch (failed(request)) {
      case IoFailure::Action::stop:
        request.held = true;
        held_.push_back(&request);
        ++taken_;  // what waits is still ours
        bytes_taken_ += request.size;
        return;
      case IoFailure::Action::report:
        count(request);
        return answer(request, BlockStatus::io_error);
      case IoFailure::Action::ignore:
        break;
    }
  }
  count(request);
  answer(request, BlockStatus::ok);
}

IoFailure::Action Block::failed(const Request& request) {
  using Action = IoFailure::Action;
  const Error& error = request.result.error();
  IoFailure failure{.write = request.kind != DiskRequest::Kind::read,
                    .no_space = error.number == ENOSPC,
                    .reason = error.message};
  const ErrorPolicy policy = failure.write ? config_.write_errors : config_.read_errors;
  if (policy == ErrorPolicy::ignore) failure.action = Action::ignore;
  if (policy == ErrorPolicy::stop || (policy == ErrorPolicy::enospc && failure.no_space))
    failure.action = Action::stop;
  const auto times = failures_.happened();
  if (times) {
    const char* then = failure.action == Action::report ? "the guest is told"
                       : failure.action == Action::stop ? "the guest stops until it is told to go on (cont)"
                                                        : "ignored";
    log::error("{}: {} ({} times): {}", name_, error.message, *times, then);
  }
  shown_.change([&](Shown& shown) {
    shown.status = failure.no_space ? IoStatus::no_space : IoStatus::failed;
    shown.holds_failed = shown.holds_failed || failure.action == Action::stop;
  });
  if (on_failure_ && (times || failure.action == Action::stop)) on_failure_(failure);
  return failure.action;
}

void Block::observe(std::function<void(const IoFailure&)> on_failure) {
  const MutexLock lock(mutex());
  on_failure_ = std::move(on_failure);
}

void Block::go_on_after_failure() {
  const MutexLock lock(mutex());
  shown_.set({});
  failures_ = {};  // what fails again is told of again
  for (Request* request : std::exchange(held_, {})) {
    request->held = false;
    request->taken = loop_.clock().now();
    disk_->start(*request);
    queues_->come_back(request->queue);
  }
}

void Block::forget_held(const std::function<bool(const Request&)>& meant) {
  std::erase_if(held_, [&](Request* request) REQUIRES(mutex()) {
    if (!meant(*request)) return false;
    request->held = false;
    request->cancelled = true;
    on_done(*request);
    return true;
  });
  // At once, and so with the mutex held, which the checker does not see.
  shown_.change([this](Shown& shown) NO_THREAD_SAFETY_ANALYSIS { shown.holds_failed = !held_.empty(); });
}

void Block::count(const Request& request) {
  switch (request.kind) {
    case DiskRequest::Kind::read:
      ++counters_.reads;
      counters_.read += Bytes{request.transferred};
      break;
    case DiskRequest::Kind::write:
      ++counters_.writes;
      counters_.written += Bytes{request.transferred};
      break;
    case DiskRequest::Kind::flush:
      ++counters_.flushes;
      break;
    case DiskRequest::Kind::discard:
    case DiskRequest::Kind::zero:
      ++counters_.discards;
      break;
  }
}

void Block::answer(Request& request, BlockStatus status) {
  if (status != BlockStatus::ok && !request.cancelled) ++counters_.failed;
  counted_.set(counters_);
  VirtQueue* queue = resetting_ || request.cancelled ? nullptr : queues_->at(request.queue);
  if (queue == nullptr) {
    VirtQueue::forget(std::move(*request.chain));  // its rings are no longer ours to write
  } else {
    const std::uint64_t writable = request.chain->writable_size();
    std::uint64_t written = 0;
    if (writable >= kStatusSize) {
      const auto byte = static_cast<std::byte>(status);
      request.chain->write(writable - kStatusSize, std::span(&byte, 1));
      written = kStatusSize + (request.kind == DiskRequest::Kind::read ? request.transferred : 0);
    }
    queue->put(std::move(*request.chain), static_cast<std::uint32_t>(written));
    answered_[request.queue] = true;
  }
  request.chain.reset();
  spare_requests_.push_back(&request);
}

void Block::notify() {
  for (std::uint16_t i = 0; i < queue_count(); ++i) {
    if (answered_[i]) queues_->notify(i);
    answered_[i] = false;
  }
}

void Block::look_for_slow() {
  if (taken_ == 0) {
    watchdog_set_ = false;
    return watchdog_->set({});
  }
  const Request* oldest = nullptr;
  for (const auto& request : all_requests_) {
    if (request->chain && !request->held && (oldest == nullptr || request->taken < oldest->taken))
      oldest = request.get();
  }
  if (oldest == nullptr) return;
  const auto took = std::chrono::duration_cast<std::chrono::seconds>(loop_.clock().now() - oldest->taken);
  if (took < kSlow) return;
  log::warning(
      "{}: queue {}: a {} of {} at byte {} has taken {} s, {} requests wait: the host's disk or filesystem "
      "under "
      "{} is slow or stuck; look at iostat -x and the host's kernel log",
      name_, oldest->queue, kind_name(oldest->kind), format_bytes(Bytes{oldest->size}), oldest->offset,
      took.count(), taken_, config_.path);
}

}  // namespace balloon::vmm
