#include "vmm/pci/virtio_pci.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <mutex>
#include <utility>

#include "base/log.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/virtio/queue.h"

namespace balloon::vmm {
using namespace virtio_pci;  // NOLINT: the constants of this very file's header
namespace {

/// A guest that breaks the rules over and over is told each time; the log is not.
constexpr unsigned kComplaintsLogged = 8;
/// Of the access capability's data window in the configuration space, from the capability's start.
constexpr std::size_t kAccessBar = 4;
constexpr std::size_t kAccessOffset = 8;
constexpr std::size_t kAccessSize = 12;
constexpr std::size_t kAccessData = 16;

/// Whether an access of `size` bytes at `offset` meets the field of `length` bytes at `at`.
bool meets(std::size_t offset, std::size_t size, std::size_t at, std::size_t length) {
  return offset < at + length && offset + size > at;
}

}  // namespace

Result<std::unique_ptr<VirtioPci>> VirtioPci::create(std::unique_ptr<VirtioDevice> device,
                                                     const GuestMemory& memory, EventLoop& loop,
                                                     PciHost& host, const PciSpaces& spaces,
                                                     TransportConfig config) {
  std::vector<std::unique_ptr<MsiLine>> lines;
  const std::size_t vectors =
      device->queue_sizes().size() + 1;  // each queue its own, and one for the config space
  for (std::size_t i = 0; i < vectors; ++i) {
    auto line = host.new_msi_line();
    if (!line) return fail(fmt::format("making the interrupts of {}", device->name()), line.error());
    lines.push_back(std::move(*line));
  }
  auto transport = std::unique_ptr<VirtioPci>(
      new VirtioPci(std::move(device), memory, loop, host, spaces, config, std::move(lines)));
  BALLOON_TRY(transport->watch_doorbells());
  return transport;
}

VirtioPci::VirtioPci(std::unique_ptr<VirtioDevice> device, const GuestMemory& memory, EventLoop& loop,
                     PciHost& host, const PciSpaces& spaces, TransportConfig config,
                     std::vector<std::unique_ptr<MsiLine>> lines)
    : PciDevice(std::string(device->name()), identity(device->id(), config.interface), spaces),
      device_(std::move(device)),
      memory_(memory),
      loop_(loop),
      host_services_(host),
      msix_(std::move(lines)),
      queues_(device_->queue_sizes().size()),
      transport_(config),
      memory_bar_(config.interface == VirtioInterface::modern ? 0 : 1) {
  for (std::size_t i = 0; i < queues_.size(); ++i) {
    queues_[i].max_size = queues_[i].size = device_->queue_sizes()[i];
  }
  add_bars();
  if (config.interface != VirtioInterface::legacy) add_virtio_capabilities();
  add_msix_capability();
  device_->attach(*this);
}

VirtioPci::~VirtioPci() {
  bar_moved(memory_bar_, std::nullopt);
  bar_moved(kLegacyBar, std::nullopt);
  for (const Queue& queue : queues_) {
    if (queue.doorbell) loop_.unwatch(queue.doorbell.get());
  }
  const std::lock_guard lock(device_->mutex);
  if ((status_ & kDriverOk) != 0) device_->reset();
}

Result<void> VirtioPci::watch_doorbells() {
  for (std::size_t i = 0; i < queues_.size(); ++i) {
    auto event = loop_.watch_event([this, i] { on_doorbell(static_cast<std::uint16_t>(i)); });
    if (!event) return fail(fmt::format("making the doorbells of {}", name()), event.error());
    queues_[i].doorbell = std::move(*event);
  }
  return {};
}

// --- BAR and configuration space ---

void VirtioPci::read_bar(unsigned bar, std::uint64_t offset, std::span<std::byte> into) {
  bar == memory_bar_ ? read_memory(offset, into) : read_legacy(offset, into);
}

void VirtioPci::write_bar(unsigned bar, std::uint64_t offset, std::span<const std::byte> from) {
  bar == memory_bar_ ? write_memory(offset, from) : write_legacy(offset, from);
}

void VirtioPci::read_memory(std::uint64_t offset, std::span<std::byte> into) {
  const std::uint64_t within = offset % kPart;
  switch (offset - within) {
    case kCommon:
      return read_common(within, into);
    case kIsr:
      std::ranges::fill(into, std::byte{0});
      if (within == 0) into[0] = std::byte{take_isr()};
      return;
    case kDevice:
      return read_device_config(within, into);
    case kMsixTable:
      return msix_.read_table(within, into);
    case kMsixPending:
      return msix_.read_pending(within, into);
    default:
      std::ranges::fill(into, std::byte{0});
  }
}

void VirtioPci::write_memory(std::uint64_t offset, std::span<const std::byte> from) {
  const std::uint64_t within = offset % kPart;
  switch (offset - within) {
    case kCommon:
      return write_common(within, from);
    case kDevice:
      return write_device_config(within, from);
    case kNotify:
      // Only kicks of an odd width come here, or those through the access capability; the others are
      // ioeventfds.
      if (within % kNotifyMultiplier == 0 && within / kNotifyMultiplier < queues_.size()) {
        ring(static_cast<std::uint16_t>(within / kNotifyMultiplier));
      }
      return;
    case kMsixTable:
      return msix_.write_table(within, from);
    default:
      return;
  }
}

void VirtioPci::bar_moved(unsigned bar, std::optional<GuestAddress> address) {
  const std::lock_guard lock(device_->mutex);
  for (std::size_t i = 0; i < queues_.size(); ++i) disconnect_kicks(i);
  (bar == memory_bar_ ? memory_address_ : ports_address_) = address;
  for (std::size_t i = 0; i < queues_.size(); ++i) connect_kicks(i);
}

std::vector<Doorbell> VirtioPci::doorbells(std::size_t queue) const {
  std::vector<Doorbell> all;
  if (memory_address_) all.push_back({.address = *memory_address_ + kNotify + queue * kNotifyMultiplier});
  if (ports_address_) {
    all.push_back({.address = *ports_address_ + kLegacyNotify,
                   .port = true,
                   .value = static_cast<std::uint16_t>(queue)});
  }
  return all;
}

void VirtioPci::connect_kicks(std::size_t queue) {
  for (const Doorbell& doorbell : doorbells(queue)) {
    const auto done = host_services_.connect_doorbell(doorbell, queues_[queue].kick_event());
    // Kicks then reach us as writes to a BAR: slower, but right.
    if (!done) log::warning("{}: queue {} has no ioeventfd: {}", name(), queue, done.error().message);
  }
}

void VirtioPci::disconnect_kicks(std::size_t queue) {
  for (const Doorbell& doorbell : doorbells(queue)) {
    host_services_.disconnect_doorbell(doorbell, queues_[queue].kick_event());
  }
}

std::optional<VirtioPci::Window> VirtioPci::window(std::size_t offset, std::size_t size) const {
  if (access_capability_ == 0 || !meets(offset, size, access_capability_ + kAccessData, 4)) {
    return std::nullopt;
  }
  const auto length = config_.get<std::uint32_t>(access_capability_ + kAccessSize);
  const auto at = config_.get<std::uint32_t>(access_capability_ + kAccessOffset);
  if (config_.get<std::uint8_t>(access_capability_ + kAccessBar) != memory_bar_) return std::nullopt;
  if ((length != 1 && length != 2 && length != 4) || at % length != 0 || at > kBarSize - length) {
    return std::nullopt;
  }
  return Window{at, length};
}

void VirtioPci::before_config_read(std::size_t offset, std::size_t size) {
  if (meets(offset, size, PciConfigSpace::kStatus, 2)) {
    const std::lock_guard lock(pin_mutex_);
    const auto status = static_cast<std::uint16_t>(
        (config_.get<std::uint16_t>(PciConfigSpace::kStatus) & ~PciConfigSpace::kStatusPin) |
        (isr_ != 0 && !msix_.enabled() ? PciConfigSpace::kStatusPin : 0));
    config_.set(PciConfigSpace::kStatus, std::as_bytes(std::span(&status, 1)));
  }
  if (const auto to = window(offset, size)) {
    std::array<std::byte, 4> value{};
    read_memory(to->offset, std::span(value).first(to->length));
    config_.set(access_capability_ + kAccessData, std::span(value).first(to->length));
  }
}

void VirtioPci::after_config_write(std::size_t offset, std::size_t size) {
  if (meets(offset, size, msix_capability_ + 2U, 2)) {
    msix_.set_control(config_.get<std::uint16_t>(msix_capability_ + 2U));
    const std::lock_guard lock(device_->mutex);
    interrupts_changed();
    update_pin();
  }
  if (meets(offset, size, PciConfigSpace::kCommand, 2)) {
    {
      const std::lock_guard lock(pin_mutex_);
      pin_forbidden_ =
          (config_.get<std::uint16_t>(PciConfigSpace::kCommand) & PciConfigSpace::kCommandNoPin) != 0;
    }
    update_pin();
  }
  if (const auto to = window(offset, size)) {
    const auto value = config_.get<std::array<std::byte, 4>>(access_capability_ + kAccessData);
    write_memory(to->offset, std::span(value).first(to->length));
  }
}

void VirtioPci::read_device_config(std::uint64_t offset, std::span<std::byte> into) {
  std::ranges::fill(into, std::byte{0xff});
  const std::uint64_t size = device_->config_size();
  if (offset > size || into.size() > size - offset) return;
  const std::lock_guard lock(device_->mutex);
  device_->read_config(static_cast<std::uint32_t>(offset), into);
}

void VirtioPci::write_device_config(std::uint64_t offset, std::span<const std::byte> from) {
  const std::uint64_t size = device_->config_size();
  if (offset > size || from.size() > size - offset) return;
  const std::lock_guard lock(device_->mutex);
  device_->write_config(static_cast<std::uint32_t>(offset), from);
}

// --- Life cycle ---

void VirtioPci::write_status(std::uint8_t value) {
  if (value == 0) return reset();
  // The driver sets bits one after another and clears none but by reset (2.1.1); NEEDS_RESET is the device's.
  const auto added = static_cast<std::uint8_t>(value & ~kNeedsReset & ~status_);
  status_ |= added & (kAcknowledge | kDriver | kFailed);
  if ((added & kFeaturesOk) != 0 && features_acceptable()) status_ |= kFeaturesOk;
  if ((added & kDriverOk) != 0 && (status_ & kFeaturesOk) != 0 && (status_ & kNeedsReset) == 0) activate();
}

bool VirtioPci::features_acceptable() const {
  if ((driver_features_ & ~offered()) != 0 || !negotiated(kFeatureVersion1)) return false;
  const auto missing = unmet(device_->feature_dependencies(), driver_features_);
  if (missing) {
    log::debug("{}: the driver's features {:#x} are refused: {:#x} needs one of {:#x}", name(),
               driver_features_, missing->feature, missing->needs);
  }
  return !missing;
}

Result<std::unique_ptr<VirtQueue>> VirtioPci::make_queue(const Queue& queue) const {
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

void VirtioPci::activate(std::span<const QueuePosition> positions) {
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
  log::debug("{}: driver ready, features {:#x}", name(), driver_features_);
  device_->activate(driver_features_, std::move(queues));
  // A kick that came before DRIVER_OK was dropped: look at every queue once.
  for (std::size_t i = 0; i < queues_.size(); ++i) {
    if (queues_[i].enabled) ring(static_cast<std::uint16_t>(i));
  }
}

void VirtioPci::reset() {
  const bool was_active = (status_.exchange(0) & kDriverOk) != 0;
  if (was_active) device_->reset();
  msix_.end_direct();
  for (std::size_t i = 0; i < queues_.size(); ++i) divert_kicks(static_cast<std::uint16_t>(i), -1);
  for (Queue& queue : queues_) queue.clear();
  device_feature_select_ = driver_feature_select_ = 0;
  driver_features_ = 0;
  queue_select_ = 0;
  config_vector_ = kNoVector;
  take_isr();
}

void VirtioPci::Queue::clear() {
  std::uint64_t kicks = 0;  // of the old life: for a legacy driver, a kick means that it is ready
  [[maybe_unused]] const auto forgotten = ::read(doorbell.get(), &kicks, sizeof(kicks));
  size = max_size;
  enabled = false;
  descriptors = available = used = 0;
  vector = kNoVector;
  ring = nullptr;
}

void VirtioPci::ring(std::uint16_t queue) {
  const std::uint64_t one = 1;
  // An eventfd write fails only when its counter is full: then it is signalled anyway.
  [[maybe_unused]] const auto written = ::write(queues_[queue].kick_event(), &one, sizeof(one));
}

void VirtioPci::on_doorbell(std::uint16_t queue) {
  const std::lock_guard lock(device_->mutex);
  if (queues_[queue].enabled) start_legacy_driver();
  const std::uint8_t status = status_;
  if ((status & kDriverOk) == 0 || (status & kNeedsReset) != 0 || !queues_[queue].enabled) return;
  device_->process_queue(queue);
}

// --- Interrupts: from the device, with or without its mutex ---

void VirtioPci::interrupt_queue(std::uint16_t queue) {
  if (queue >= queues_.size() || (status_ & kDriverOk) == 0) return;
  interrupt(kIsrQueue, queues_[queue].vector);
}

void VirtioPci::interrupt_config() {
  ++config_generation_;
  if ((status_ & kDriverOk) == 0) return;
  interrupt(kIsrConfig, config_vector_);
}

void VirtioPci::interrupt(std::uint8_t isr, std::uint16_t vector) {
  isr_ |= isr;
  msix_.trigger(vector);  // nothing while MSI-X is off: then it is the pin
  update_pin();
}

/// Reading acknowledges (4.1.4.5), and so lets go of the pin.
std::uint8_t VirtioPci::take_isr() {
  const std::uint8_t isr = isr_.exchange(0);
  update_pin();
  return isr;
}

void VirtioPci::update_pin() {
  if (msix_.enabled() && !pin_asserted_) return;  // the usual case, without a lock
  const std::lock_guard lock(pin_mutex_);
  const bool asserted = isr_ != 0 && !msix_.enabled() && !pin_forbidden_;
  if (pin_ == nullptr || asserted == pin_asserted_) return;
  pin_asserted_ = asserted;
  pin_->set(asserted);
}

Result<void> VirtioPci::plug(unsigned slot) {
  auto pin = host_services_.new_pin_line(layout::pci_pin(slot));
  if (!pin) return fail(fmt::format("making the interrupt of {}", name()), pin.error());
  const std::lock_guard lock(pin_mutex_);
  pin_ = std::move(*pin);
  config_.set_pin(static_cast<std::uint8_t>(layout::pci_pin(slot)));
  return {};
}

void VirtioPci::divert_kicks(std::uint16_t queue, int event) {
  if (queue >= queues_.size() || queues_[queue].diverted == event) return;
  // KVM has one eventfd at an address: kicks in between are BAR writes, which ring() sends the same way.
  disconnect_kicks(queue);
  queues_[queue].diverted = event;
  connect_kicks(queue);
}

int VirtioPci::interrupt_event(std::uint16_t queue) {
  return queue < queues_.size() ? msix_.direct(queues_[queue].vector) : -1;
}

void VirtioPci::interrupts_changed() {
  if ((status_ & kDriverOk) == 0) return;
  msix_.end_direct();
  device_->interrupts_changed();
}

void VirtioPci::needs_reset(std::string_view why) {
  if ((status_.fetch_or(kNeedsReset) & kNeedsReset) != 0) return;
  if (complaints_++ < kComplaintsLogged) {
    log::warning("{}: the guest broke the rules, the device waits for its reset: {}", name(), why);
  }
  interrupt_config();
}

}  // namespace balloon::vmm
