// SPDX-License-Identifier: Apache-2.0
#include "vmm/pci/virtio_pci.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

#include "vmm/arch/x86_64/layout.h"

namespace balloon::vmm {
using namespace virtio_pci;  // NOLINT: the constants of this very file's header
namespace {

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
      VirtioTransport(std::move(device), memory, loop, host, config),
      host_services_(host),
      msix_(std::move(lines)),
      memory_bar_(config.interface == VirtioInterface::modern ? 0 : 1),
      queue_vectors_(queues_.size()) {
  for (auto& vector : queue_vectors_) vector = kNoVector;
  add_bars();
  if (config.interface != VirtioInterface::legacy) add_virtio_capabilities();
  add_msix_capability();
}

VirtioPci::~VirtioPci() { end(); }

// --- BAR and configuration space ---

void VirtioPci::read_bar(unsigned bar, std::uint64_t offset, std::span<std::byte> into) {
  if (bar == memory_bar_) return read_memory(offset, into);
  if (bar == kLegacyBar) return read_legacy(offset, into);
  std::ranges::fill(into, std::byte{0});  // doorbells
}

void VirtioPci::write_bar(unsigned bar, std::uint64_t offset, std::span<const std::byte> from) {
  if (bar == memory_bar_) return write_memory(offset, from);
  if (bar == kLegacyBar) return write_legacy(offset, from);
  write_doorbell(offset);
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
      return write_doorbell(within);
    case kMsixTable:
      return msix_.write_table(within, from);
    default:
      return;
  }
}

void VirtioPci::write_doorbell(std::uint64_t offset) {
  if (offset % kNotifyMultiplier == 0 && offset / kNotifyMultiplier < queues_.size()) {
    ring(static_cast<std::uint16_t>(offset / kNotifyMultiplier));
  }
}

void VirtioPci::bar_moved(unsigned bar, std::optional<GuestAddress> address) {
  const MutexLock lock(device_->mutex());
  for (std::size_t i = 0; i < queues_.size(); ++i) disconnect_kicks(i);
  (bar == memory_bar_ ? memory_address_ : ports_address_) = address;
  for (std::size_t i = 0; i < queues_.size(); ++i) connect_kicks(i);
}

std::vector<Doorbell> VirtioPci::doorbells(std::size_t queue) const {
  std::vector<Doorbell> all;
  const std::uint64_t offset = queue * kNotifyMultiplier;
  if (memory_address_) all.push_back({.address = *memory_address_ + kNotify + offset});
  if (ports_address_ && transport_.interface == VirtioInterface::modern) {
    all.push_back({.address = *ports_address_ + offset, .port = true});
  } else if (ports_address_) {
    all.push_back({.address = *ports_address_ + kLegacyNotify,
                   .port = true,
                   .value = static_cast<std::int32_t>(queue)});
  }
  return all;
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
    const MutexLock lock(device_->mutex());
    messages_changed();
    update_pin();
  }
  if (meets(offset, size, PciConfigSpace::kCommand, 2)) {
    pin_forbidden_ =
        (config_.get<std::uint16_t>(PciConfigSpace::kCommand) & PciConfigSpace::kCommandNoPin) != 0;
    update_pin();
  }
  if (const auto to = window(offset, size)) {
    const auto value = config_.get<std::array<std::byte, 4>>(access_capability_ + kAccessData);
    write_memory(to->offset, std::span(value).first(to->length));
  }
}

// --- Interrupts ---

void VirtioPci::send_message(std::optional<std::uint16_t> queue) {
  msix_.trigger(queue ? queue_vectors_[*queue] : config_vector_);  // nothing while MSI-X is off
}

void VirtioPci::forget_messages() {
  msix_.end_direct();
  config_vector_ = kNoVector;
  for (auto& vector : queue_vectors_) vector = kNoVector;
}

void VirtioPci::forget_message(std::uint16_t queue) { queue_vectors_[queue] = kNoVector; }

void VirtioPci::messages_changed() {
  if ((status_ & kDriverOk) == 0) return;
  msix_.end_direct();
  device_->interrupts_changed();
}

int VirtioPci::interrupt_event(std::uint16_t queue) {
  return queue < queues_.size() ? msix_.direct(queue_vectors_[queue]) : -1;
}

std::uint16_t VirtioPci::checked_vector(std::uint64_t value) const {
  return value < msix_.vectors() ? static_cast<std::uint16_t>(value) : kNoVector;
}

Result<void> VirtioPci::plug(unsigned slot) {
  auto pin = host_services_.new_pin_line(layout::pci_pin(slot));
  if (!pin) return fail(fmt::format("making the interrupt of {}", name()), pin.error());
  set_pin_line(std::move(*pin));
  config_.set_pin(static_cast<std::uint8_t>(layout::pci_pin(slot)));
  return {};
}

}  // namespace balloon::vmm
