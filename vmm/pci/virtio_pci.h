// The virtio PCI transport, modern interface only (virtio 1.2, 4.1): makes a VirtioDevice a PCI function.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "vmm/event_loop.h"
#include "vmm/pci/msix.h"
#include "vmm/pci/pci_device.h"
#include "vmm/pci/pci_host.h"
#include "vmm/virtio/device.h"

namespace balloon::vmm {

class GuestMemory;

/// Where the structures lie in BAR 0, one page each.
namespace virtio_pci {
inline constexpr unsigned kBar = 0;
inline constexpr std::uint32_t kCommon = 0x0000;
inline constexpr std::uint32_t kCommonSize = 56;  ///< struct virtio_pci_common_cfg of virtio 1.1
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

// Device status bits (virtio 1.2, 2.1).
inline constexpr std::uint8_t kAcknowledge = 1;
inline constexpr std::uint8_t kDriver = 2;
inline constexpr std::uint8_t kDriverOk = 4;
inline constexpr std::uint8_t kFeaturesOk = 8;
inline constexpr std::uint8_t kNeedsReset = 64;
inline constexpr std::uint8_t kFailed = 128;
}  // namespace virtio_pci

/// Lock order: VirtioDevice::mutex, then Msix's. The transport's own state is under VirtioDevice::mutex,
/// apart from the atomics, which the device's interrupts read with or without it.
class VirtioPci final : public PciDevice, private DeviceHost {
 public:
  static Result<std::unique_ptr<VirtioPci>> create(std::unique_ptr<VirtioDevice> device,
                                                   const GuestMemory& memory, EventLoop& loop, PciHost& host,
                                                   Bus& mmio);
  ~VirtioPci() override;

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
    std::atomic<int> diverted = -1;  ///< where kicks go instead of the doorbell
    int kick_event() const {
      const int other = diverted;
      return other >= 0 ? other : doorbell.get();
    }
  };

  VirtioPci(std::unique_ptr<VirtioDevice> device, const GuestMemory& memory, EventLoop& loop, PciHost& host,
            Bus& mmio, std::vector<std::unique_ptr<MsiLine>> lines);
  Result<void> watch_doorbells();
  void add_capabilities();

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
  void read_common(std::uint64_t offset, std::span<std::byte> into);
  void write_common(std::uint64_t offset, std::span<const std::byte> from);
  void write_queue_field(std::uint64_t offset, std::size_t size, std::uint64_t value);
  void read_device_config(std::uint64_t offset, std::span<std::byte> into);
  void write_device_config(std::uint64_t offset, std::span<const std::byte> from);

  void write_status(std::uint8_t value);
  bool features_acceptable() const;
  void activate();
  void reset();
  void ring(std::uint16_t queue);
  void connect_kicks(std::size_t queue, GuestAddress bar);
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
  std::uint8_t msix_capability_ = 0;
  std::uint8_t access_capability_ = 0;
  std::optional<GuestAddress> bar_address_;

  std::uint32_t device_feature_select_ = 0;
  std::uint32_t driver_feature_select_ = 0;
  std::uint64_t driver_features_ = 0;
  std::uint16_t queue_select_ = 0;
  std::atomic<unsigned> complaints_ = 0;

  std::atomic<std::uint8_t> status_ = 0;
  std::atomic<std::uint8_t> config_generation_ = 0;
  std::atomic<std::uint8_t> isr_ = 0;
  std::atomic<std::uint16_t> config_vector_ = virtio_pci::kNoVector;
};

}  // namespace balloon::vmm
