// SPDX-License-Identifier: Apache-2.0
// MSI-X (PCI Local Bus 3.0, 6.8.2): the vector table, the pending bits and the masks. Thread-safe.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/mutex.h"
#include "vmm/pci/pci_host.h"

namespace balloon::vmm {

class StateReader;
class StateWriter;

class Msix {
 public:
  static constexpr std::uint8_t kCapabilityId = 0x11;
  static constexpr std::uint16_t kControlEnable = 1U << 15;
  static constexpr std::uint16_t kControlFunctionMask = 1U << 14;
  static constexpr std::size_t kEntrySize = 16;

  /// One vector a line.
  explicit Msix(std::vector<std::unique_ptr<MsiLine>> lines);

  /// As many as it was made with: that needs no lock.
  std::uint16_t vectors() const NO_THREAD_SAFETY_ANALYSIS {
    return static_cast<std::uint16_t>(entries_.size());
  }

  /// Guest accesses. Only aligned 4- and 8-byte accesses within the table do anything; other reads give
  /// zeros.
  void read_table(std::uint64_t offset, std::span<std::byte> into) const;
  void write_table(std::uint64_t offset, std::span<const std::byte> from);
  void read_pending(std::uint64_t offset, std::span<std::byte> into) const;
  /// For snapshots; the control word is set anew after load().
  void save(StateWriter& writer) const;
  Result<void> load(StateReader& reader);
  /// The capability's message control word.
  void set_control(std::uint16_t control);

  /// Sends the vector's message, or marks it pending while it is masked. Nothing while MSI-X is off or for an
  /// unknown vector.
  void trigger(std::uint16_t vector);
  /// Off: the device uses its INTx pin instead.
  bool enabled() const { return enabled_; }

  /// An eventfd whose signals are as trigger(vector), masks included, without this process: for a queue
  /// that somebody else serves. -1 when MSI-X is off, the vector unknown, or its line has none. Good until
  /// end_direct().
  int direct(std::uint16_t vector);
  /// Ends all of direct(). What was signalled while masked stays pending.
  void end_direct();

 private:
  struct Entry {
    std::uint32_t words[4] = {0, 0, 0, kVectorMasked};  ///< address low and high, data, vector control
    bool pending = false;
    bool direct = false;
    bool held = false;  ///< only of a direct one: the line holds signals back, because the vector is masked
    std::optional<MsiMessage> routed;
    std::unique_ptr<MsiLine> line;
  };
  static constexpr std::uint32_t kVectorMasked = 1;

  bool open(const Entry& entry) const REQUIRES(mutex_);
  bool route(Entry& entry) REQUIRES(mutex_);
  void hold_direct(Entry& entry, bool hold) REQUIRES(mutex_);
  /// Routes an open vector and sends what is pending.
  void update(Entry& entry) REQUIRES(mutex_);

  mutable Mutex mutex_;
  std::atomic<bool> enabled_ = false;  ///< written under the mutex
  bool function_masked_ GUARDED_BY(mutex_) = false;
  std::vector<Entry> entries_ GUARDED_BY(mutex_);
};

}  // namespace balloon::vmm
