// SPDX-License-Identifier: Apache-2.0
// The virtio PCI transport (virtio 1.2, 4.1): makes a VirtioDevice a PCI function, with the modern interface,
// the legacy one (4.1.4.10), or both.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/error.h"
#include "base/mutex.h"
#include "vmm/pci/msix.h"
#include "vmm/pci/pci_device.h"
#include "vmm/pci/pci_host.h"
#include "vmm/virtio/transport.h"

namespace balloon::vmm {

/// Where the modern structures and the MSI-X table lie in the memory BAR, one page each.
namespace virtio_pci {
inline constexpr std::uint32_t kCommon = 0x0000;
inline constexpr std::uint32_t kCommonSize = 60;  ///< struct virtio_pci_common_cfg of virtio 1.2
inline constexpr std::uint32_t kIsr = 0x1000;
inline constexpr std::uint32_t kDevice = 0x2000;
inline constexpr std::uint32_t kNotify = 0x3000;
inline constexpr std::uint32_t kMsixTable = 0x4000;
inline constexpr std::uint32_t kMsixPending = 0x5000;
inline constexpr std::uint32_t kBarSize = 0x8000;
inline constexpr std::uint32_t kPart = 0x1000;
/// Each queue has a doorbell of its own: one ioeventfd, no data match.
inline constexpr std::uint32_t kNotifyMultiplier = 4;
/// Of a modern function: the same doorbells as ports, offered first. KVM signals an ioeventfd at a port
/// without decoding the guest's instruction, which on AMD, and with an ioeventfd of a fixed width on Intel,
/// it has to do for one in memory (arch/x86/kvm: kvm_fast_pio(), kvm_mmu_page_fault()).
inline constexpr unsigned kKickBar = 1;
inline constexpr std::uint16_t kNoVector = 0xffff;

/// The legacy interface is BAR 0, in I/O space: it makes the memory BAR number 1.
inline constexpr unsigned kLegacyBar = 0;
/// Its header, without and with the MSI-X vectors; the device's configuration follows.
inline constexpr std::uint32_t kLegacyHeader = 20;
inline constexpr std::uint32_t kLegacyHeaderMsix = 24;
/// All queues' doorbell, told apart by the value; for a transitional device's modern driver as well.
inline constexpr std::uint32_t kLegacyNotify = 16;
inline constexpr std::uint32_t kLegacyNotifySize = 2;

using namespace virtio_transport;  // NOLINT: its constants are every transport's
}  // namespace virtio_pci

/// Lock order: VirtioTransport's, with Msix's in the place of the pin's.
class VirtioPci final : public PciDevice, public VirtioTransport {
 public:
  static Result<std::unique_ptr<VirtioPci>> create(std::unique_ptr<VirtioDevice> device,
                                                   const GuestMemory& memory, EventLoop& loop, PciHost& host,
                                                   const PciSpaces& spaces, TransportConfig config = {});
  ~VirtioPci() override;

  // In virtio_pci_state.cc.
  /// Of a device that is settled; what serves queues in its place (vhost) is paused.
  Result<void> save(StateWriter& writer) const override;
  Result<void> load(StateReader& reader) override;

 private:
  VirtioPci(std::unique_ptr<VirtioDevice> device, const GuestMemory& memory, EventLoop& loop, PciHost& host,
            const PciSpaces& spaces, TransportConfig config, std::vector<std::unique_ptr<MsiLine>> lines);
  // In virtio_pci_setup.cc.
  static PciIdentity identity(DeviceId id, VirtioInterface interface);
  /// Ports in the BAR of doorbells; 0: there is none, because of the interface or the number of queues.
  std::uint32_t kick_ports() const;
  void add_bars();
  void add_virtio_capabilities();
  void add_msix_capability();

  // PciDevice
  Result<void> plug(unsigned slot) override;
  void read_bar(unsigned bar, std::uint64_t offset, std::span<std::byte> into) override;
  void write_bar(unsigned bar, std::uint64_t offset, std::span<const std::byte> from) override;
  void bar_moved(unsigned bar, std::optional<GuestAddress> address) override;
  void before_config_read(std::size_t offset, std::size_t size) override;
  void after_config_write(std::size_t offset, std::size_t size) override;

  // VirtioTransport
  std::vector<Doorbell> doorbells(std::size_t queue) const override REQUIRES(device_->mutex());
  bool pin_in_use() const override { return !msix_.enabled() && !pin_forbidden_; }
  void send_message(std::optional<std::uint16_t> queue) override;
  void forget_messages() override REQUIRES(device_->mutex());
  void forget_message(std::uint16_t queue) override REQUIRES(device_->mutex());
  void kicked_early() override REQUIRES(device_->mutex()) { start_legacy_driver(); }
  std::uint64_t acceptable() const override REQUIRES(device_->mutex());
  int interrupt_event(std::uint16_t queue) override;

  // The common configuration structure (4.1.4.3), in virtio_pci_common.cc.
  void read_memory(std::uint64_t offset, std::span<std::byte> into);
  void write_memory(std::uint64_t offset, std::span<const std::byte> from);
  void read_common(std::uint64_t offset, std::span<std::byte> into);
  void write_common(std::uint64_t offset, std::span<const std::byte> from);
  void write_queue_field(std::uint64_t offset, std::size_t size, std::uint64_t value)
      REQUIRES(device_->mutex());

  /// Kicks of an odd width, and those through the access capability; all others are ioeventfds.
  void write_doorbell(std::uint64_t offset);

  // The legacy interface, in virtio_pci_legacy.cc.
  void read_legacy(std::uint64_t offset, std::span<std::byte> into);
  void write_legacy(std::uint64_t offset, std::span<const std::byte> from);
  void write_legacy_header(std::uint64_t offset, std::size_t size, std::uint64_t value)
      REQUIRES(device_->mutex());
  void set_legacy_queue(std::uint64_t page) REQUIRES(device_->mutex());
  void start_legacy_driver() REQUIRES(device_->mutex());
  std::uint32_t legacy_header() const;
  std::uint64_t offered_to_legacy() const;

  /// The data window of the access capability (4.1.4.9): where it points to, if an access of the
  /// configuration space is one to it.
  struct Window {
    std::uint32_t offset;
    std::uint32_t length;
  };
  std::optional<Window> window(std::size_t offset, std::size_t size) const;
  void messages_changed() REQUIRES(device_->mutex());
  std::uint16_t checked_vector(std::uint64_t value) const;

  PciHost& host_services_;
  Msix msix_;
  const unsigned memory_bar_;
  std::uint8_t msix_capability_ = 0;
  std::uint8_t access_capability_ = 0;  ///< 0: the modern interface is hidden
  std::optional<GuestAddress> memory_address_ GUARDED_BY(device_->mutex());
  std::optional<GuestAddress> ports_address_ GUARDED_BY(device_->mutex());
  std::atomic<std::uint16_t> config_vector_ = virtio_pci::kNoVector;
  std::vector<std::atomic<std::uint16_t>> queue_vectors_;
  std::atomic<bool> pin_forbidden_ = false;
};

}  // namespace balloon::vmm
