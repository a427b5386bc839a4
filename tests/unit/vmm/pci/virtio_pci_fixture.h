// The transport with a fake device behind it and a modern driver in front.
#pragma once

#include <gtest/gtest.h>

#include <memory>

#include "tests/unit/vmm/pci/virtio_function.h"
#include "tests/unit/vmm/virtio/fake_driver.h"

namespace balloon::vmm::test {

class VirtioPciTest : public testing::Test, protected VirtioFunction {
 protected:
  explicit VirtioPciTest(TransportConfig transport_config = {}) {
    auto made = std::make_unique<FakeDevice>();
    device = made.get();
    plug_in(std::move(made), memory, *loop, transport_config);
  }
  ~VirtioPciTest() override { root.reset(); }

  std::uint8_t status() const { return common<std::uint8_t>(kStatus); }
  void set_status(std::uint8_t value) { set_common<std::uint8_t>(kStatus, value); }
  void negotiate() {
    set_status(virtio_pci::kAcknowledge);
    set_status(kBegun);
    accept(offered());
    set_status(kAccepted);
  }
  void set_up_queue(std::uint16_t index, const QueueLayout& layout) {
    set_common<std::uint16_t>(kQueueSelect, index);
    set_common<std::uint16_t>(kQueueSize, layout.size);
    set_common<std::uint16_t>(kQueueVector, static_cast<std::uint16_t>(index + 1));
    set_common<std::uint32_t>(kQueueDesc, static_cast<std::uint32_t>(layout.descriptors));
    set_common<std::uint32_t>(kQueueDesc + 4, static_cast<std::uint32_t>(layout.descriptors >> 32));
    set_common<std::uint64_t>(kQueueDriver, layout.available);
    set_common<std::uint64_t>(kQueueDevice, layout.used);
    set_common<std::uint16_t>(kQueueEnable, 1);
  }
  /// All the way to DRIVER_OK, as Linux goes it.
  void bring_up() {
    set_status(0);
    open_vectors(3);
    negotiate();
    set_common<std::uint16_t>(kConfigVector, 0);
    set_up_queue(0, queue0.layout());
    set_up_queue(1, queue1.layout());
    set_status(kAccepted | virtio_pci::kDriverOk);
  }
  bool kick(std::uint16_t queue) {
    return host.kick({bar + virtio_pci::kNotify + queue * virtio_pci::kNotifyMultiplier});
  }
  int kicks(std::uint16_t queue) {
    const std::lock_guard lock(device->mutex);
    return device->kicks[queue];
  }

  GuestMemory memory = make_memory();
  FakeQueue queue0{memory, 1 * kMiB, 64};
  FakeQueue queue1{memory, 2 * kMiB, 32};
  std::unique_ptr<EventLoop> loop = std::move(*EventLoop::create("test-loop"));
  FakeDevice* device = nullptr;
};

}  // namespace balloon::vmm::test
