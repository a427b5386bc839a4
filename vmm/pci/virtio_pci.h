// The virtio PCI transport (virtio 1.2, 4.1): makes a VirtioDevice a PCI function, with the modern interface,
// the legacy one (4.1.4.10), or both.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "vmm/event_loop.h"
#include "vmm/pci/msix.h"
#include "vmm/pci/pci_device.h"
#include "vmm/pci/pci_host.h"
#include "vmm/virtio/device.h"
#include "vmm/virtio/queue.h"
#include "vmm/virtio/transport_config.h"

namespace balloon::vmm {

class GuestMemory;

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
inline constexpr std::uint16_t kNoVector = 0xffff;

/// The legacy interface is BAR 0, in I/O space: it makes the memory BAR number 1.
inline constexpr unsigned kLegacyBar = 0;
/// Its header, without and with the MSI-X vectors; the device's configuration follows.
inline constexpr std::uint32_t kLegacyHeader = 20;
inline constexpr std::uint32_t kLegacyHeaderMsix = 24;
inline constexpr std::uint32_t kLegacyNotify = 16;

// Bits of the ISR status (4.1.4.5).
inline constexpr std::uint8_t kIsrQueue = 1;
inline constexpr std::uint8_t kIsrConfig = 2;

// Device status bits (virtio 1.2, 2.1).
inline constexpr std::uint8_t kAcknowledge = 1;
inline constexpr std::uint8_t kDriver = 2;
inline constexpr std::uint8_t kDriverOk = 4;
inline constexpr std::uint8_t kFeaturesOk = 8;
inline constexpr std::uint8_t kNeedsReset = 64;
inline constexpr std::uint8_t kFailed = 128;
}  // namespace virtio_pci

/// Lock order: VirtioDevice::mutex, then Msix's or the pin's. The transport's own state is under
/// VirtioDevice::mutex, apart from the atomics, which the device's interrupts read with or without it.
class VirtioPci final : public PciDevice, private DeviceHost {
 public:
  static Result<std::unique_ptr<VirtioPci>> create(std::unique_ptr<VirtioDevice> device,
                                                   const GuestMemory& memory, EventLoop& loop, PciHost& host,
                                                   const PciSpaces& spaces, TransportConfig config = {});
  ~VirtioPci() override;

  // In virtio_pci_state.cc.
  /// Of a device that is settled; what serves queues in its place (vhost) is paused.
  Result<void> save(StateWriter& writer) const override;
  Result<void> load(StateReader& reader) override;
  /// Waits until nothing that the driver asked for is under way.
  void settle();

 private:
  struct Queue {
    std::uint16_t max_size = 0;
    std::uint16_t size = 0;
    bool enabled = false;
    GuestAddress descriptors = 0;
    GuestAddress available = 0;
    GuestAddress used = 0;
    std::atomic<std::uint16_t> vector = virtio_pci::kNoVector;
    UniqueFd doorbell;
    VirtQueue* ring = nullptr;       ///< the device's, while it is active
    std::atomic<int> diverted = -1;  ///< where kicks go instead of the doorbell
    /// As after a reset of the device; its doorbell's kicks are forgotten.
    void clear();
    int kick_event() const {
      const int other = diverted;
      return other >= 0 ? other : doorbell.get();
    }
  };

  VirtioPci(std::unique_ptr<VirtioDevice> device, const GuestMemory& memory, EventLoop& loop, PciHost& host,
            const PciSpaces& spaces, TransportConfig config, std::vector<std::unique_ptr<MsiLine>> lines);
  Result<void> watch_doorbells();
  // In virtio_pci_setup.cc.
  static PciIdentity identity(DeviceId id, VirtioInterface interface);
  void add_bars();
  void add_virtio_capabilities();
  void add_msix_capability();

  Result<void> plug(unsigned slot) override;
  void read_bar(unsigned bar, std::uint64_t offset, std::span<std::byte> into) override;
  void write_bar(unsigned bar, std::uint64_t offset, std::span<const std::byte> from) override;
  void bar_moved(unsigned bar, std::optional<GuestAddress> address) override;
  void before_config_read(std::size_t offset, std::size_t size) override;
  void after_config_write(std::size_t offset, std::size_t size) override;

  void interrupt_queue(std::uint16_t queue) override;
  void interrupt_config() override;
  void needs_reset(std::string_view why) override;
  void divert_kicks(std::uint16_t queue, int event) override;
  int interrupt_event(std::uint16_t queue) override;

  // The common configuration structure (4.1.4.3), in virtio_pci_common.cc.
  void read_memory(std::uint64_t offset, std::span<std::byte> into);
  void write_memory(std::uint64_t offset, std::span<const std::byte> from);
  void read_common(std::uint64_t offset, std::span<std::byte> into);
  void write_common(std::uint64_t offset, std::span<const std::byte> from);
  void write_queue_field(std::uint64_t offset, std::size_t size, std::uint64_t value);
  void enable_queue(Queue& queue);
  void reset_queue(Queue& queue);
  void read_device_config(std::uint64_t offset, std::span<std::byte> into);
  void write_device_config(std::uint64_t offset, std::span<const std::byte> from);

  // The legacy interface, in virtio_pci_legacy.cc.
  void read_legacy(std::uint64_t offset, std::span<std::byte> into);
  void write_legacy(std::uint64_t offset, std::span<const std::byte> from);
  void write_legacy_header(std::uint64_t offset, std::size_t size, std::uint64_t value);
  void set_legacy_queue(std::uint64_t page);
  void start_legacy_driver();
  std::uint32_t legacy_header() const;
  std::uint64_t offered_to_legacy() const;

  void write_status(std::uint8_t value);
  bool features_acceptable() const;
  bool negotiated(std::uint64_t feature) const { return (driver_features_ & feature) != 0; }
  Result<std::unique_ptr<VirtQueue>> make_queue(const Queue& queue) const;
  std::uint16_t index_of(const Queue& queue) const {
    return static_cast<std::uint16_t>(&queue - queues_.data());
  }
  /// `positions`: where each queue stands already; empty: all are new.
  void activate(std::span<const QueuePosition> positions = {});
  void reset();
  void ring(std::uint16_t queue);
  std::vector<Doorbell> doorbells(std::size_t queue) const;
  void connect_kicks(std::size_t queue);
  void disconnect_kicks(std::size_t queue);
  /// The data window of the access capability (4.1.4.9): where it points to, if an access of the
  /// configuration space is one to it.
  struct Window {
    std::uint32_t offset;
    std::uint32_t length;
  };
  std::optional<Window> window(std::size_t offset, std::size_t size) const;
  void interrupt(std::uint8_t isr, std::uint16_t vector);
  std::uint8_t take_isr();
  void update_pin();
  void interrupts_changed();
  void on_doorbell(std::uint16_t queue);
  std::uint64_t offered() const;
  std::uint16_t checked_vector(std::uint64_t value) const;
  Queue* selected_queue();

  std::unique_ptr<VirtioDevice> device_;
  const GuestMemory& memory_;
  EventLoop& loop_;
  PciHost& host_services_;
  Msix msix_;
  std::vector<Queue> queues_;
  const TransportConfig transport_;
  const unsigned memory_bar_;
  std::uint8_t msix_capability_ = 0;
  std::uint8_t access_capability_ = 0;  ///< 0: the modern interface is hidden
  std::optional<GuestAddress> memory_address_;
  std::optional<GuestAddress> ports_address_;

  std::uint32_t device_feature_select_ = 0;
  std::uint32_t driver_feature_select_ = 0;
  std::uint64_t driver_features_ = 0;
  std::uint16_t queue_select_ = 0;
  std::atomic<unsigned> complaints_ = 0;

  std::atomic<std::uint8_t> status_ = 0;
  std::atomic<std::uint8_t> config_generation_ = 0;
  std::atomic<std::uint8_t> isr_ = 0;
  std::atomic<std::uint16_t> config_vector_ = virtio_pci::kNoVector;

  std::mutex pin_mutex_;  ///< of the two below; nothing else is taken under it but Vm's
  std::unique_ptr<PinLine> pin_;
  bool pin_forbidden_ = false;
  std::atomic<bool> pin_asserted_ = false;
};

}  // namespace balloon::vmm
