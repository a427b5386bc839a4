// A real device behind virtio-pci, and a driver in front of it that goes the whole way: registers, rings,
// kicks. Modern or legacy.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "tests/unit/vmm/pci/guest_pci.h"
#include "tests/unit/vmm/virtio/fake_driver.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/pci/pci_root.h"
#include "vmm/pci/virtio_pci.h"

namespace balloon::vmm::test {

class DeviceGuest {
 public:
  // The modern common configuration (virtio 1.2, 4.1.4.3) and the legacy header (4.1.4.10), by the
  // specification's offsets.
  static constexpr unsigned kDeviceFeatureSelect = 0, kDeviceFeature = 4, kDriverFeatureSelect = 8,
                            kDriverFeature = 12, kConfigVector = 16, kStatus = 20, kQueueSelect = 22,
                            kQueueSize = 24, kQueueVector = 26, kQueueEnable = 28, kQueueDesc = 32,
                            kQueueDriver = 40, kQueueDevice = 48, kQueueReset = 58;
  static constexpr unsigned kOldDeviceFeatures = 0, kOldDriverFeatures = 4, kOldQueuePage = 8,
                            kOldQueueSize = 12, kOldQueueSelect = 14, kOldNotify = 16, kOldStatus = 18,
                            kOldConfigVector = 20, kOldQueueVector = 22;
  static constexpr std::uint8_t kBegun = virtio_pci::kAcknowledge | virtio_pci::kDriver;
  static constexpr std::uint8_t kAccepted = kBegun | virtio_pci::kFeaturesOk;

  DeviceGuest(std::unique_ptr<VirtioDevice> device, const GuestMemory& memory, EventLoop& loop,
              TransportConfig transport = {})
      : memory_(memory), legacy_(transport.interface == VirtioInterface::legacy), device_(device.get()) {
    if (!ports_.add("PCI", layout::kPciConfigAddressPort, PciRoot::kPorts, *root_))
      throw std::runtime_error("the PCI root's ports");
    auto made = VirtioPci::create(std::move(device), memory, loop, host_, {mmio_, ports_}, transport);
    if (!made) throw std::runtime_error(made.error().message);
    transport_ = made->get();
    if (!root_->add(std::move(*made))) throw std::runtime_error("adding the device");
    config_.enable_io_and_memory();
    const unsigned memory_bar = legacy_ ? 1 : 0;
    bar_ = config_.read<std::uint32_t>(0x10 + 4 * memory_bar) & ~15U;
    if (legacy_) base_ = config_.read<std::uint32_t>(0x10) & ~3U;
  }
  ~DeviceGuest() { root_.reset(); }

  std::uint64_t offered() {
    if (legacy_) return old<std::uint32_t>(kOldDeviceFeatures);
    std::uint64_t features = 0;
    for (std::uint32_t word = 0; word < 2; ++word) {
      set_common<std::uint32_t>(kDeviceFeatureSelect, word);
      features |= std::uint64_t{common<std::uint32_t>(kDeviceFeature)} << (32 * word);
    }
    return features;
  }
  /// Up to FEATURES_OK, with `features` of those offered, no matter whether they are accepted. Whether they
  /// are.
  bool negotiate(std::uint64_t features = ~0ULL) {
    features &= offered();
    features_ = features;
    set_status(0);
    set_status(virtio_pci::kAcknowledge);
    set_status(kBegun);
    if (legacy_) {
      set_old<std::uint32_t>(kOldDriverFeatures, static_cast<std::uint32_t>(features));
      return true;
    }
    for (std::uint32_t word = 0; word < 2; ++word) {
      set_common<std::uint32_t>(kDriverFeatureSelect, word);
      set_common<std::uint32_t>(kDriverFeature, static_cast<std::uint32_t>(features >> (32 * word)));
    }
    set_status(kAccepted);
    return (status() & virtio_pci::kFeaturesOk) != 0;
  }
  /// Opens MSI-X vector i + 1 for queue i, and vector 0 for the configuration.
  void use_messages() {
    const auto msix = config_.capability([&](unsigned at) { return config_.read<std::uint8_t>(at) == 0x11; });
    const auto vectors = static_cast<std::uint32_t>(device_->queue_sizes().size() + 1);
    for (std::uint32_t vector = 0; vector < vectors; ++vector) {
      const GuestAddress entry = bar_ + virtio_pci::kMsixTable + vector * 16;
      bus_write<std::uint32_t>(mmio_, entry, 0xfee00000);
      bus_write<std::uint32_t>(mmio_, entry + 8, 0x40 + vector);
      bus_write<std::uint32_t>(mmio_, entry + 12, 0);
    }
    config_.write<std::uint16_t>(*msix + 2, 0x8000);
    messages_ = true;
    legacy_ ? set_old<std::uint16_t>(kOldConfigVector, 0) : set_common<std::uint16_t>(kConfigVector, 0);
  }
  /// All queues, then DRIVER_OK.
  void start() {
    queues_.clear();
    for (std::uint16_t i = 0; i < device_->queue_sizes().size(); ++i) {
      queues_.push_back(nullptr);
      set_up_queue(i);
    }
    set_status(static_cast<std::uint8_t>((legacy_ ? kBegun : kAccepted) | virtio_pci::kDriverOk));
  }
  void bring_up(std::uint64_t features = ~0ULL) {
    if (!negotiate(features)) throw std::runtime_error("FEATURES_OK was refused");
    start();
  }
  /// New rings for queue `index`.
  void set_up_queue(std::uint16_t index) {
    const std::uint16_t size = device_->queue_sizes()[index];
    const GuestAddress base = FakeDriver::kQueuesStart + index * FakeQueue::kFootprint;
    const auto rings = memory_.at(base, FakeQueue::kRings);
    std::memset(rings->data(), 0, rings->size());
    auto queue = std::make_unique<FakeQueue>(memory_, base, size, (features_ & kFeatureEventIdx) != 0,
                                             (features_ & kFeatureIndirectDesc) != 0);
    if (legacy_) queue->lay_out_as_legacy();
    const QueueLayout layout = queue->layout();
    queues_.at(index) = std::move(queue);
    const auto vector = static_cast<std::uint16_t>(index + 1);
    if (legacy_) {
      set_old<std::uint16_t>(kOldQueueSelect, index);
      ASSERT_EQ(old<std::uint16_t>(kOldQueueSize), size);
      set_old<std::uint32_t>(kOldQueuePage, static_cast<std::uint32_t>(layout.descriptors / kPageSize));
      if (messages_) set_old<std::uint16_t>(kOldQueueVector, vector);
      return;
    }
    set_common<std::uint16_t>(kQueueSelect, index);
    set_common<std::uint16_t>(kQueueSize, size);
    if (messages_) set_common<std::uint16_t>(kQueueVector, vector);
    set_common<std::uint64_t>(kQueueDesc, layout.descriptors);
    set_common<std::uint64_t>(kQueueDriver, layout.available);
    set_common<std::uint64_t>(kQueueDevice, layout.used);
    set_common<std::uint16_t>(kQueueEnable, 1);
  }
  /// RING_RESET, as Linux does it (vp_modern_set_queue_reset): back when the device says that it is over.
  void reset_queue(std::uint16_t index) {
    set_common<std::uint16_t>(kQueueSelect, index);
    set_common<std::uint16_t>(kQueueReset, 1);
    ASSERT_TRUE(eventually([&] { return common<std::uint16_t>(kQueueReset) == 0; }));
    ASSERT_EQ(common<std::uint16_t>(kQueueEnable), 0);
  }

  FakeQueue& queue(std::uint16_t index) { return *queues_.at(index); }
  /// As KVM takes the driver's write.
  void kick(std::uint16_t index) {
    const Doorbell bell =
        legacy_ ? Doorbell{.address = base_ + kOldNotify, .port = true, .value = index}
                : Doorbell{.address = bar_ + virtio_pci::kNotify + index * virtio_pci::kNotifyMultiplier};
    ASSERT_TRUE(host_.kick(bell));
  }
  std::optional<UsedElement> wait_used(std::uint16_t index) {
    std::optional<UsedElement> used;
    eventually([&] { return (used = queue(index).pop_used()).has_value(); });
    return used;
  }
  /// Interrupts of queue `index` so far; with messages.
  int interrupts(std::uint16_t index) { return host_.line(index + 1U).triggers; }

  std::uint8_t status() const {
    return legacy_ ? old<std::uint8_t>(kOldStatus) : common<std::uint8_t>(kStatus);
  }
  void set_status(std::uint8_t value) {
    legacy_ ? set_old<std::uint8_t>(kOldStatus, value) : set_common<std::uint8_t>(kStatus, value);
  }
  template <typename T>
  T common(unsigned offset) const {
    return bus_read<T>(mmio_, bar_ + virtio_pci::kCommon + offset);
  }
  template <typename T>
  void set_common(unsigned offset, T value) {
    bus_write<T>(mmio_, bar_ + virtio_pci::kCommon + offset, value);
  }
  template <typename T>
  T old(unsigned offset) const {
    return bus_read<T>(ports_, base_ + offset);
  }
  template <typename T>
  void set_old(unsigned offset, T value) {
    bus_write<T>(ports_, base_ + offset, value);
  }
  /// The device's configuration, byte by byte, as Linux reads it through ports.
  std::vector<std::byte> read_config(unsigned offset, std::size_t size) const {
    std::vector<std::byte> bytes;
    for (unsigned i = 0; i < size; ++i) {
      bytes.push_back(legacy_ ? old<std::byte>((messages_ ? 24 : 20) + offset + i)
                              : bus_read<std::byte>(mmio_, bar_ + virtio_pci::kDevice + offset + i));
    }
    return bytes;
  }

  VirtioDevice& device() { return *device_; }
  VirtioPci& transport() { return *transport_; }
  FakePciHost& host() { return host_; }
  const ConfigPorts& config() const { return config_; }
  const Bus& ports() const { return ports_; }
  const Bus& mmio() const { return mmio_; }
  std::uint32_t bar() const { return bar_; }

 private:
  const GuestMemory& memory_;
  const bool legacy_;
  VirtioDevice* const device_;
  VirtioPci* transport_ = nullptr;
  FakePciHost host_;
  Bus ports_;
  Bus mmio_;
  std::unique_ptr<PciRoot> root_ = std::make_unique<PciRoot>(PciSpaces{mmio_, ports_});
  ConfigPorts config_{ports_, 1};
  std::uint32_t base_ = 0;
  std::uint32_t bar_ = 0;
  bool messages_ = false;
  std::uint64_t features_ = 0;
  std::vector<std::unique_ptr<FakeQueue>> queues_;
};

}  // namespace balloon::vmm::test
