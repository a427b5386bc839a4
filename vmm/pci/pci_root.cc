// SPDX-License-Identifier: Apache-2.0
#include "vmm/pci/pci_root.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "vmm/arch/x86_64/layout.h"
#include "vmm/snapshot/state_stream.h"

namespace balloon::vmm {
namespace {

constexpr std::uint32_t kEnable = 1U << 31;
constexpr std::uint64_t kDataOffset = layout::kPciConfigDataPort - layout::kPciConfigAddressPort;

/// Linux asks for a host bridge on bus 0 before it trusts configuration mechanism 1 (arch/x86/pci/direct.c).
class HostBridge : public PciDevice {
 public:
  // Red Hat's id of QEMU's generic host bridge: no driver binds to it, no quirk knows it (pci.ids).
  explicit HostBridge(const PciSpaces& spaces)
      : PciDevice("host bridge", {.vendor = 0x1b36, .device = 0x0008, .class_code = 0x060000}, spaces) {}

 protected:
  void read_bar(unsigned, std::uint64_t, std::span<std::byte>) override {}
  void write_bar(unsigned, std::uint64_t, std::span<const std::byte>) override {}
};

}  // namespace

PciRoot::PciRoot(const PciSpaces& spaces) { devices_[0] = std::make_unique<HostBridge>(spaces); }

Result<unsigned> PciRoot::find_slot(std::optional<unsigned> wanted) const {
  if (wanted && (*wanted >= kSlots || devices_.at(*wanted) != nullptr))
    return fail(fmt::format("the PCI slot {:x} is not free", *wanted));
  if (wanted) return *wanted;
  for (unsigned slot = 0; slot < kSlots; ++slot) {
    if (devices_.at(slot) == nullptr && (reserved_ >> slot & 1) == 0) return slot;
  }
  return fail(fmt::format("the PCI bus is full: {} devices at most", kSlots - 1));
}

std::uint64_t PciRoot::used_slots() const {
  static_assert(kSlots <= 64);
  std::uint64_t used = 0;
  for (unsigned slot = 0; slot < kSlots; ++slot) used |= std::uint64_t{devices_.at(slot) != nullptr} << slot;
  return used;
}

Result<void> PciRoot::add(std::unique_ptr<PciDevice> device, std::optional<unsigned> wanted) {
  const MutexLock lock(mutex_);
  const auto slot = find_slot(wanted);
  if (!slot) return std::unexpected(slot.error());
  for (unsigned bar = 0; bar < PciConfigSpace::kBars; ++bar) {
    const std::uint64_t size = device->config().bar_size(bar);
    if (size == 0) continue;
    const bool io = device->config().is_io_bar(bar);
    std::uint64_t& next = io ? next_port_ : next_memory_;
    const std::uint64_t address = (next + size - 1) & ~(size - 1);
    const std::uint64_t end = io ? layout::kPciIoEnd + 1U : layout::kPciWindowStart + layout::kPciWindowSize;
    if (address + size > end) {
      return fail(fmt::format("no room left in the PCI window for {}", device->name()));
    }
    device->place_bar(bar, static_cast<std::uint32_t>(address));
    next = address + size;
  }
  BALLOON_TRY(device->plug(*slot));
  devices_.at(*slot) = std::move(device);
  return {};
}

Result<void> PciRoot::save(StateWriter& writer) {
  const MutexLock lock(mutex_);
  writer.section("PCI");
  writer.put(address_);
  writer.put(used_slots());
  for (const auto& device : devices_) {
    if (device) BALLOON_TRY(device->save(writer));
  }
  return {};
}

Result<void> PciRoot::load(StateReader& reader) {
  const MutexLock lock(mutex_);
  BALLOON_TRY(reader.section("PCI"));
  address_ = reader.get<std::uint32_t>();
  const auto slots = reader.get<std::uint64_t>();
  BALLOON_TRY(reader.check());
  if (slots != used_slots()) {
    return fail(
        fmt::format("the snapshot has {} PCI devices, this machine has {}, in slots {:#x} and {:#x}: give it "
                    "the same disks, nets and other devices, at the same addresses",
                    std::popcount(slots) - 1, std::popcount(used_slots()) - 1, slots, used_slots()));
  }
  for (const auto& device : devices_) {
    if (device) BALLOON_TRY(device->load(reader));
  }
  return {};
}

PciDevice* PciRoot::selected() const {
  const unsigned bus = address_ >> 16 & 0xff;
  const unsigned slot = address_ >> 11 & 0x1f;
  const unsigned function = address_ >> 8 & 0x7;
  if ((address_ & kEnable) == 0 || bus != 0 || function != 0) return nullptr;
  return devices_.at(slot).get();
}

void PciRoot::bus_read(std::uint64_t offset, std::span<std::byte> into) {
  const MutexLock lock(mutex_);
  if (offset < kDataOffset) {
    if (offset + into.size() > sizeof(address_)) return;
    const auto bytes = std::as_bytes(std::span(&address_, 1));
    std::ranges::copy(bytes.subspan(offset, into.size()), into.begin());
    return;
  }
  if (PciDevice* device = selected()) {
    device->read_config((address_ & 0xfc) + offset - kDataOffset, into);
  }
}

void PciRoot::bus_write(std::uint64_t offset, std::span<const std::byte> from) {
  const MutexLock lock(mutex_);
  if (offset < kDataOffset) {
    // Only a whole double word reaches the address register; smaller writes belong to other devices (0xcf9,
    // 0xcfb).
    if (offset == 0 && from.size() == sizeof(address_)) std::memcpy(&address_, from.data(), sizeof(address_));
    return;
  }
  if (PciDevice* device = selected()) {
    device->write_config((address_ & 0xfc) + offset - kDataOffset, from);
  }
}

}  // namespace balloon::vmm
