// SPDX-License-Identifier: Apache-2.0
// A real device behind virtio-pci, and a driver in front of it that goes the whole way: registers, rings,
// kicks. Modern or legacy.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "tests/unit/vmm/pci/virtio_function.h"
#include "tests/unit/vmm/virtio/fake_driver.h"

namespace balloon::vmm::test {

class DeviceGuest : public VirtioRegisters {
 public:
  DeviceGuest(std::unique_ptr<VirtioDevice> device, const GuestMemory& memory, EventLoop& loop,
              TransportConfig transport = {})
      : memory_(memory), legacy_(transport.interface == VirtioInterface::legacy), device_(device.get()) {
    function_.plug_in(std::move(device), memory, loop, transport);
  }
  ~DeviceGuest() { function_.root.reset(); }

  std::uint64_t offered() { return legacy_ ? old<std::uint32_t>(kOldDeviceFeatures) : function_.offered(); }
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
    function_.accept(features);
    set_status(kAccepted);
    return (status() & virtio_pci::kFeaturesOk) != 0;
  }
  /// Opens MSI-X vector i + 1 for queue i, and vector 0 for the configuration.
  void use_messages() {
    function_.open_vectors(static_cast<std::uint32_t>(device_->queue_sizes().size() + 1));
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
        legacy_ ? Doorbell{.address = function_.base + kOldNotify, .port = true, .value = index}
                : Doorbell{.address = function_.base + index * virtio_pci::kNotifyMultiplier, .port = true};
    ASSERT_TRUE(function_.host.kick(bell));
  }
  std::optional<UsedElement> wait_used(std::uint16_t index) {
    std::optional<UsedElement> used;
    eventually([&] { return (used = queue(index).pop_used()).has_value(); });
    return used;
  }
  /// Interrupts of queue `index` so far; with messages.
  int interrupts(std::uint16_t index) { return function_.host.line(index + 1U).triggers; }

  std::uint8_t status() const {
    return legacy_ ? old<std::uint8_t>(kOldStatus) : common<std::uint8_t>(kStatus);
  }
  void set_status(std::uint8_t value) {
    legacy_ ? set_old<std::uint8_t>(kOldStatus, value) : set_common<std::uint8_t>(kStatus, value);
  }
  template <typename T>
  T common(unsigned offset) const {
    return function_.common<T>(offset);
  }
  template <typename T>
  void set_common(unsigned offset, T value) {
    function_.set_common(offset, value);
  }
  template <typename T>
  T old(unsigned offset) const {
    return function_.old<T>(offset);
  }
  template <typename T>
  void set_old(unsigned offset, T value) {
    function_.set_old(offset, value);
  }
  /// The device's configuration, byte by byte, as Linux reads it through ports.
  std::vector<std::byte> read_config(unsigned offset, std::size_t size) const {
    std::vector<std::byte> bytes;
    for (unsigned i = 0; i < size; ++i) {
      bytes.push_back(
          legacy_ ? old<std::byte>((messages_ ? 24 : 20) + offset + i)
                  : bus_read<std::byte>(function_.mmio, function_.bar + virtio_pci::kDevice + offset + i));
    }
    return bytes;
  }

  VirtioDevice& device() { return *device_; }
  VirtioPci& transport() { return *function_.transport; }
  FakePciHost& host() { return function_.host; }
  const ConfigPorts& config() const { return function_.config; }
  const Bus& ports() const { return function_.ports; }
  const Bus& mmio() const { return function_.mmio; }
  std::uint32_t bar() const { return function_.bar; }

 private:
  const GuestMemory& memory_;
  const bool legacy_;
  VirtioDevice* const device_;
  VirtioFunction function_;
  bool messages_ = false;
  std::uint64_t features_ = 0;
  std::vector<std::unique_ptr<FakeQueue>> queues_;
};

}  // namespace balloon::vmm::test
