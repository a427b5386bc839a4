// SPDX-License-Identifier: Apache-2.0
#include "vmm/virtio/transport.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "base/log.h"

namespace balloon::vmm {
using namespace virtio_transport;  // NOLINT: the constants of this very file's header
namespace {

/// A guest that breaks the rules over and over is told each time; the log is not.
constexpr unsigned kComplaintsLogged = 8;

std::uint32_t word_of(std::uint64_t features, std::uint32_t select) {
  return select < 2 ? static_cast<std::uint32_t>(features >> (32 * select)) : 0;
}

/// `value` with one of its halves replaced.
void replace_half(std::uint64_t& value, bool high, std::uint32_t half) {
  const unsigned shift = high ? 32 : 0;
  value = (value & ~(0xffffffffULL << shift)) | std::uint64_t{half} << shift;
}

}  // namespace

VirtioTransport::VirtioTransport(std::unique_ptr<VirtioDevice> device, const GuestMemory& memory,
                                 EventLoop& loop, Wiring& wiring, TransportConfig config)
    : device_(std::move(device)),
      queues_(device_->queue_sizes().size()),
      transport_(config),
      wiring_(wiring),
      memory_(memory),
      loop_(loop) {
  for (std::size_t i = 0; i < queues_.size(); ++i) {
    queues_[i].max_size = queues_[i].size = device_->queue_sizes()[i];
  }
  device_->attach(*this);
}

VirtioTransport::~VirtioTransport() = default;

Result<void> VirtioTransport::watch_doorbells() {
  for (std::size_t i = 0; i < queues_.size(); ++i) {
    auto event = loop_.watch_event([this, i] { on_doorbell(static_cast<std::uint16_t>(i)); });
    if (!event) return fail(fmt::format("making the doorbells of {}", device_->name()), event.error());
    queues_[i].doorbell = std::move(*event);
  }
  return {};
}

void VirtioTransport::end() {
  {
    const MutexLock lock(device_->mutex());
    for (std::size_t i = 0; i < queues_.size(); ++i) disconnect_kicks(i);
  }
  for (const Queue& queue : queues_) {
    if (queue.doorbell) loop_.unwatch(queue.doorbell.get());
  }
  {
    const MutexLock lock(device_->mutex());
    if ((status_ & kDriverOk) != 0) device_->reset();
  }
  device_.reset();  // its last callbacks may still call us
}

void VirtioTransport::settle() {
  const MutexLock lock(device_->mutex());
  if ((status_ & kDriverOk) != 0) device_->settle();
}

// --- Features and status ---

std::uint64_t VirtioTransport::offered() const {
  const bool packed = transport_.packed_rings && device_->takes_packed_rings();
  return device_->offered_features() | kFeatureVersion1 | kFeatureRingReset |
         (packed ? kFeatureRingPacked : 0);
}

std::uint32_t VirtioTransport::offered_word() const { return word_of(offered(), device_feature_select_); }

std::uint32_t VirtioTransport::driver_word() const {
  return word_of(driver_features_, driver_feature_select_);
}

void VirtioTransport::write_driver_word(std::uint32_t value) {
  // Frozen once the driver has said FEATURES_OK.
  if ((status_ & kFeaturesOk) != 0 || driver_feature_select_ > 1) return;
  replace_half(driver_features_, driver_feature_select_ == 1, value);
}

bool VirtioTransport::features_acceptable() const {
  if ((driver_features_ & ~offered()) != 0 || !negotiated(kFeatureVersion1)) return false;
  const auto missing = unmet(device_->feature_dependencies(), driver_features_);
  if (missing) {
    log::debug("{}: the driver's features {:#x} are refused: {:#x} needs one of {:#x}", device_->name(),
               driver_features_, missing->feature, missing->needs);
  }
  return !missing;
}

void VirtioTransport::write_status(std::uint8_t value) {
  if (value == 0) return reset();
  // The driver sets bits one after another and clears none but by reset (2.1.1); NEEDS_RESET is the device's.
  const auto added = static_cast<std::uint8_t>(value & ~kNeedsReset & ~status_);
  status_ |= added & (kAcknowledge | kDriver | kFailed);
  if ((added & kFeaturesOk) != 0 && features_acceptable()) status_ |= kFeaturesOk;
  if ((added & kDriverOk) != 0 && (status_ & kFeaturesOk) != 0 && (status_ & kNeedsReset) == 0) activate();
}

void VirtioTransport::reset() {
  const bool was_active = (status_.exchange(0) & kDriverOk) != 0;
  if (was_active) device_->reset();
  forget_messages();
  for (std::size_t i = 0; i < queues_.size(); ++i) divert_kicks(static_cast<std::uint16_t>(i), -1);
  for (Queue& queue : queues_) queue.clear();
  device_feature_select_ = driver_feature_select_ = 0;
  driver_features_ = 0;
  queue_select_ = 0;
  take_isr();
}

// --- Queues ---

void VirtioTransport::Queue::clear() {
  std::uint64_t kicks = 0;  // of the old life: for a legacy driver, a kick means that it is ready
  [[maybe_unused]] const auto forgotten = ::read(doorbell.get(), &kicks, sizeof(kicks));
  size = max_size;
  enabled = false;
  descriptors = available = used = 0;
  ring = nullptr;
}

VirtioTransport::Queue* VirtioTransport::selected_queue() {
  return queue_select_ < queues_.size() ? &queues_[queue_select_] : nullptr;
}

bool VirtioTransport::frozen(const Queue& queue) const {
  return queue.enabled || ((status_ & kDriverOk) != 0 && !negotiated(kFeatureRingReset));
}

void VirtioTransport::set_queue_size(Queue& queue, std::uint64_t value) const {
  // A packed ring may have any size (2.8.10).
  const bool fits = negotiated(kFeatureRingPacked) || std::has_single_bit(value);
  if (frozen(queue) || !fits || value == 0 || value > queue.max_size) return;
  queue.size = static_cast<std::uint16_t>(value);
}

void VirtioTransport::set_queue_address(Queue& queue, GuestAddress Queue::* part, bool high,
                                        std::uint32_t value) const {
  if (!frozen(queue)) replace_half(queue.*part, high, value);
}

void VirtioTransport::enable_queue(Queue& queue) {
  if (frozen(queue)) return;
  queue.enabled = true;
  const std::uint8_t status = status_;
  if ((status & kDriverOk) == 0 || (status & kNeedsReset) != 0) return;
  auto made = make_queue(queue);
  if (!made) return needs_reset(made.error().message);
  queue.ring = made->get();
  device_->start_queue(index_of(queue), std::move(*made));
}

void VirtioTransport::reset_queue(Queue& queue) {
  if (queue.ring != nullptr) device_->reset_queue(index_of(queue));
  queue.clear();
  forget_message(index_of(queue));
}

Result<std::unique_ptr<VirtQueue>> VirtioTransport::make_queue(const Queue& queue) const {
  auto made = VirtQueue::create(memory_, {.size = queue.size,
                                          .descriptors = queue.descriptors,
                                          .available = queue.available,
                                          .used = queue.used,
                                          .event_idx = negotiated(kFeatureEventIdx),
                                          .indirect = negotiated(kFeatureIndirectDesc),
                                          .packed = negotiated(kFeatureRingPacked)});
  if (!made) return fail(fmt::format("queue {}", index_of(queue)), made.error());
  return std::make_unique<VirtQueue>(std::move(*made));
}

void VirtioTransport::activate(std::span<const QueuePosition> positions) {
  std::vector<std::unique_ptr<VirtQueue>> queues;
  for (Queue& queue : queues_) {
    queue.ring = nullptr;
    if (!queue.enabled) {
      queues.push_back(nullptr);
      continue;
    }
    auto made = make_queue(queue);
    if (!made) return needs_reset(made.error().message);
    if (!positions.empty()) {
      if (const auto set = (*made)->set_position(positions[queues.size()]); !set)
        return needs_reset(fmt::format("queue {}: {}", queues.size(), set.error().message));
    }
    queue.ring = made->get();
    queues.push_back(std::move(*made));
  }
  status_ |= kDriverOk;
  log::debug("{}: driver ready, features {:#x}", device_->name(), driver_features_);
  device_->activate(driver_features_, std::move(queues));
  // A kick that came before DRIVER_OK was dropped: look at every queue once.
  for (std::size_t i = 0; i < queues_.size(); ++i) {
    if (queues_[i].enabled) ring(static_cast<std::uint16_t>(i));
  }
}

// --- Kicks ---

void VirtioTransport::connect_kicks(std::size_t queue) {
  for (const Doorbell& doorbell : doorbells(queue)) {
    const auto done = wiring_.connect_doorbell(doorbell, queues_[queue].kick_event());
    // Kicks then reach us as writes to a register: slower, but right.
    if (!done) {
      log::warning("{}: queue {} has no ioeventfd: {}", device_->name(), queue, done.error().message);
    }
  }
}

void VirtioTransport::disconnect_kicks(std::size_t queue) {
  for (const Doorbell& doorbell : doorbells(queue)) {
    wiring_.disconnect_doorbell(doorbell, queues_[queue].kick_event());
  }
}

void VirtioTransport::divert_kicks(std::uint16_t queue, int event) {
  if (queue >= queues_.size() || queues_[queue].diverted == event) return;
  // KVM has one eventfd at an address: kicks in between are register writes, which ring() sends the same way.
  disconnect_kicks(queue);
  queues_[queue].diverted = event;
  connect_kicks(queue);
}

void VirtioTransport::ring(std::uint16_t queue) {
  const std::uint64_t one = 1;
  // An eventfd write fails only when its counter is full: then it is signalled anyway.
  [[maybe_unused]] const auto written = ::write(queues_[queue].kick_event(), &one, sizeof(one));
}

void VirtioTransport::on_doorbell(std::uint16_t queue) {
  const MutexLock lock(device_->mutex());
  if (!queues_[queue].enabled) return;
  if ((status_ & kDriverOk) == 0) kicked_early();
  const std::uint8_t status = status_;
  if ((status & kDriverOk) == 0 || (status & kNeedsReset) != 0) return;
  device_->process_queue(queue);
}

// --- The device's configuration ---

void VirtioTransport::read_device_config(std::uint64_t offset, std::span<std::byte> into) {
  std::ranges::fill(into, std::byte{0xff});
  const std::uint64_t size = device_->config_size();
  if (offset > size || into.size() > size - offset) return;
  const MutexLock lock(device_->mutex());
  device_->read_config(static_cast<std::uint32_t>(offset), into);
}

void VirtioTransport::write_device_config(std::uint64_t offset, std::span<const std::byte> from) {
  const std::uint64_t size = device_->config_size();
  if (offset > size || from.size() > size - offset) return;
  const MutexLock lock(device_->mutex());
  device_->write_config(static_cast<std::uint32_t>(offset), from);
}

// --- Interrupts: from the device, with or without its mutex ---

void VirtioTransport::interrupt_queue(std::uint16_t queue) {
  if (queue >= queues_.size() || (status_ & kDriverOk) == 0) return;
  interrupt(kIsrQueue, queue);
}

void VirtioTransport::interrupt_config() {
  ++config_generation_;
  if ((status_ & kDriverOk) == 0) return;
  interrupt(kIsrConfig, std::nullopt);
}

void VirtioTransport::interrupt(std::uint8_t isr, std::optional<std::uint16_t> queue) {
  isr_ |= isr;
  send_message(queue);
  update_pin();
}

std::uint8_t VirtioTransport::take_isr(std::uint8_t bits) {
  const std::uint8_t taken = isr_.fetch_and(static_cast<std::uint8_t>(~bits)) & bits;
  update_pin();
  return taken;
}

void VirtioTransport::set_pin_line(std::unique_ptr<PinLine> pin) {
  const MutexLock lock(pin_mutex_);
  pin_ = std::move(pin);
}

void VirtioTransport::update_pin() {
  if (!pin_in_use() && !pin_asserted_) return;  // the usual case with messages, without a lock
  const MutexLock lock(pin_mutex_);
  const bool asserted = isr_ != 0 && pin_in_use();
  if (pin_ == nullptr || asserted == pin_asserted_) return;
  pin_asserted_ = asserted;
  pin_->set(asserted);
}

void VirtioTransport::needs_reset(std::string_view why) {
  if ((status_.fetch_or(kNeedsReset) & kNeedsReset) != 0) return;
  if (complaints_++ < kComplaintsLogged) {
    log::warning("{}: the guest broke the rules, the device waits for its reset: {}", device_->name(), why);
  }
  interrupt_config();
}

}  // namespace balloon::vmm
