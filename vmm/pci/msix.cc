// SPDX-License-Identifier: Apache-2.0
#include "vmm/pci/msix.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "base/log.h"
#include "vmm/snapshot/state_stream.h"

namespace balloon::vmm {
namespace {

bool natural(std::uint64_t offset, std::size_t size) {
  return (size == 4 || size == 8) && offset % size == 0;
}

}  // namespace

Msix::Msix(std::vector<std::unique_ptr<MsiLine>> lines) {
  for (auto& line : lines) entries_.emplace_back().line = std::move(line);
}

void Msix::read_table(std::uint64_t offset, std::span<std::byte> into) const {
  std::ranges::fill(into, std::byte{0});
  const MutexLock lock(mutex_);
  const std::uint64_t index = offset / kEntrySize;
  if (!natural(offset, into.size()) || index >= entries_.size()) return;
  const auto bytes = std::as_bytes(std::span(entries_[index].words));
  std::memcpy(into.data(), bytes.data() + offset % kEntrySize, into.size());
}

void Msix::write_table(std::uint64_t offset, std::span<const std::byte> from) {
  const MutexLock lock(mutex_);
  const std::uint64_t index = offset / kEntrySize;
  if (!natural(offset, from.size()) || index >= entries_.size()) return;
  Entry& entry = entries_[index];
  const auto bytes = std::as_writable_bytes(std::span(entry.words));
  std::memcpy(bytes.data() + offset % kEntrySize, from.data(), from.size());
  entry.words[3] &= kVectorMasked;  // the other bits of vector control are reserved
  update(entry);
}

void Msix::read_pending(std::uint64_t offset, std::span<std::byte> into) const {
  std::ranges::fill(into, std::byte{0});
  const MutexLock lock(mutex_);
  for (std::size_t i = 0; i < into.size(); ++i) {
    for (unsigned bit = 0; bit < 8; ++bit) {
      const std::uint64_t vector = (offset + i) * 8 + bit;
      if (vector >= entries_.size()) continue;
      const Entry& entry = entries_[vector];
      if (entry.pending || (entry.held && entry.line->held_signal())) into[i] |= std::byte{1} << bit;
    }
  }
}

void Msix::save(StateWriter& writer) const {
  const MutexLock lock(mutex_);
  writer.section("MSI-X");
  writer.put(vectors());
  for (const Entry& entry : entries_) {
    writer.put(entry.words);
    writer.put(entry.pending || (entry.held && entry.line->held_signal()));
  }
}

Result<void> Msix::load(StateReader& reader) {
  const MutexLock lock(mutex_);
  BALLOON_TRY(reader.section("MSI-X"));
  if (const auto saved = reader.get<std::uint16_t>(); saved != vectors()) {
    return fail(fmt::format(
        "the snapshot's device has {} interrupt vectors, this one has {}: it needs the same number "
        "of queues, so the same options",
        saved, vectors()));
  }
  for (Entry& entry : entries_) {
    const auto words = reader.get<std::array<std::uint32_t, 4>>();
    std::ranges::copy(words, entry.words);
    entry.words[3] &= kVectorMasked;
    entry.pending = reader.get<std::uint8_t>() != 0;
  }
  return reader.check();
}

void Msix::set_control(std::uint16_t control) {
  const MutexLock lock(mutex_);
  enabled_ = (control & kControlEnable) != 0;
  function_masked_ = (control & kControlFunctionMask) != 0;
  for (Entry& entry : entries_) update(entry);
}

void Msix::trigger(std::uint16_t vector) {
  const MutexLock lock(mutex_);
  if (!enabled_ || vector >= entries_.size()) return;
  Entry& entry = entries_[vector];
  entry.pending = true;
  update(entry);
}

int Msix::direct(std::uint16_t vector) {
  const MutexLock lock(mutex_);
  if (!enabled_ || vector >= entries_.size()) return -1;
  Entry& entry = entries_[vector];
  const int event = entry.line->event();
  if (event < 0) return -1;
  entry.direct = true;
  update(entry);
  return event;
}

void Msix::end_direct() {
  const MutexLock lock(mutex_);
  for (Entry& entry : entries_) {
    if (entry.held && entry.line->release()) entry.pending = true;
    entry.direct = entry.held = false;
  }
}

void Msix::hold_direct(Entry& entry, bool hold) {
  if (!entry.direct || entry.held == hold) return;
  entry.held = hold;
  if (hold) return entry.line->hold();
  if (entry.line->release()) entry.pending = true;  // sent by who calls
}

bool Msix::open(const Entry& entry) const {
  return enabled_ && !function_masked_ && (entry.words[3] & kVectorMasked) == 0;
}

/// Makes the line send what the table says; false when the hypervisor refuses the guest's message.
bool Msix::route(Entry& entry) {
  const MsiMessage message{.address = std::uint64_t{entry.words[1]} << 32 | entry.words[0],
                           .data = entry.words[2]};
  if (entry.routed == message) return true;  // a change of route is dear in KVM
  if (const auto routed = entry.line->route(message); !routed) {
    log::debug("MSI-X message {:#x}/{:#x} refused: {}", message.address, message.data,
               routed.error().message);
    return false;
  }
  entry.routed = message;
  return true;
}

void Msix::update(Entry& entry) {
  const bool ready = open(entry) && route(entry);
  hold_direct(entry, !ready);
  if (!ready) return;
  if (std::exchange(entry.pending, false)) entry.line->trigger();
}

}  // namespace balloon::vmm
