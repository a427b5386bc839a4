// SPDX-License-Identifier: Apache-2.0
// A virtio function saved and loaded into a fresh one, which shows the guest the same in every register.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/vmm/pci/device_guest.h"
#include "vmm/snapshot/state_stream.h"

namespace balloon::vmm::test {
namespace {

using ::testing::HasSubstr;

class StateTest : public testing::TestWithParam<VirtioInterface> {
 protected:
  StateTest() { make(first, first_device); }
  void make(std::optional<DeviceGuest>& guest, FakeDevice*& device) {
    auto made = std::make_unique<FakeDevice>();
    device = made.get();
    guest.emplace(std::move(made), memory, *loop,
                  TransportConfig{.interface = GetParam(), .packed_rings = packed});
  }
  Result<void> move_over() {
    StateWriter writer;
    if (auto saved = first->transport().save(writer); !saved) return saved;
    make(second, second_device);
    StateReader reader(writer.bytes());
    return second->transport().load(reader);
  }
  /// All that a guest can read without changing it.
  std::vector<std::byte> registers(DeviceGuest& guest) {
    std::vector<std::byte> all;
    const auto add = [&](const auto& value) {
      const auto bytes = std::as_bytes(std::span(&value, 1));
      all.insert(all.end(), bytes.begin(), bytes.end());
    };
    for (unsigned at = 0; at < 0x100; at += 4) add(guest.config().read<std::uint32_t>(at));
    add(guest.status());
    for (std::uint16_t queue = 0; queue < 3; ++queue) {
      if (GetParam() == VirtioInterface::legacy) {
        guest.set_old<std::uint16_t>(DeviceGuest::kOldQueueSelect, queue);
        for (unsigned at = 0; at < 16; ++at) add(guest.old<std::uint8_t>(at));
        for (unsigned at = 20; at < 32; ++at) add(guest.old<std::uint8_t>(at));
      } else {
        guest.set_common<std::uint16_t>(DeviceGuest::kQueueSelect, queue);
        for (unsigned at = 0; at < virtio_pci::kCommonSize; ++at) {
          if (at != kGeneration) add(guest.common<std::uint8_t>(at));
        }
      }
    }
    for (unsigned at = 0; at < 3 * 16; at += 4) add(msix_word(guest, virtio_pci::kMsixTable + at));
    add(msix_word(guest, virtio_pci::kMsixPending));
    add(guest.host().pin());
    return all;
  }
  static std::uint32_t msix_word(const DeviceGuest& guest, unsigned offset) {
    return bus_read<std::uint32_t>(guest.mmio(), guest.bar() + offset);
  }
  void expect_same() {
    ASSERT_EQ(registers(*first), registers(*second));
    EXPECT_EQ(first_device->config, second_device->config);
  }
  /// Chains that the device took and returned.
  static void use_some(FakeDevice& device, DeviceGuest& guest, int count) {
    const std::lock_guard lock(device.mutex());
    for (int i = 0; i < count; ++i) {
      ChainBuilder(guest.queue(1)).writable(16).submit();
      device.queues[1]->put(std::move(**device.queues[1]->take()), 4);
    }
  }

  static constexpr unsigned kGeneration = 21;  // counts on with each change
  bool packed = false;
  GuestMemory memory = make_memory();
  std::unique_ptr<EventLoop> loop = std::move(*EventLoop::create("test-loop"));
  std::optional<DeviceGuest> first;
  std::optional<DeviceGuest> second;
  FakeDevice* first_device = nullptr;
  FakeDevice* second_device = nullptr;
};

INSTANTIATE_TEST_SUITE_P(Interfaces, StateTest,
                         testing::Values(VirtioInterface::modern, VirtioInterface::legacy),
                         [](const auto& tested) {
                           return tested.param == VirtioInterface::legacy ? "Legacy" : "Modern";
                         });

TEST_P(StateTest, AFreshFunctionStaysFresh) {
  ASSERT_TRUE(move_over());
  expect_same();
}

TEST_P(StateTest, AHalfSetUpDriverGoesOn) {
  first->negotiate(0x5 | kFeatureVersion1);
  first->use_messages();
  ASSERT_TRUE(move_over());
  expect_same();
  EXPECT_EQ(second_device->activations, 0);
}

TEST_P(StateTest, ARunningDriverFindsItsQueuesWhereTheyWere) {
  first->negotiate();
  first->use_messages();
  first->start();
  use_some(*first_device, *first, 5);
  ASSERT_TRUE(move_over());
  expect_same();
  ASSERT_EQ(second_device->activations, 1);
  EXPECT_EQ(second_device->features, first_device->features);
  EXPECT_EQ(second_device->queues[1]->position(), (QueuePosition{.next_available = 5, .next_used = 5}));
  EXPECT_EQ(second_device->queues[1]->layout().used, first_device->queues[1]->layout().used);
  second->kick(0);
  EXPECT_TRUE(eventually([&] {
    const std::lock_guard lock(second_device->mutex());
    return second_device->kicks[0] > 0;
  }));
  EXPECT_TRUE(eventually([&] { return second->interrupts(0) > 0; })) << "by its vector";
}

TEST_P(StateTest, ChainsThatTheDeviceHeldAreAvailableAgain) {
  first->negotiate();
  first->start();
  use_some(*first_device, *first, 2);
  ChainBuilder(first->queue(1)).writable(16).submit();
  VirtQueue& queue = *first_device->queues[1];
  auto held = queue.take();
  ASSERT_TRUE(held && *held);
  ASSERT_TRUE(move_over());
  queue.put(std::move(**held), 0);
  EXPECT_EQ(second_device->queues[1]->position(), (QueuePosition{.next_available = 2, .next_used = 2}));
}

TEST_P(StateTest, InterruptsThatMayHaveBeenLostComeOnceMore) {
  first->negotiate();
  first->use_messages();
  first->start();
  loop->pause();  // the device looks at its queues later
  ASSERT_TRUE(move_over());
  for (const std::size_t vector : {0U, 1U, 2U}) EXPECT_EQ(second->host().line(vector).triggers, 1) << vector;
  loop->resume();
}

TEST_P(StateTest, WithoutMsixThePinAndTheIsrComeAlong) {
  first->negotiate();
  first->start();
  first_device->transport().interrupt_config();
  ASSERT_TRUE(first->host().pin());
  ASSERT_TRUE(move_over());
  expect_same();
  EXPECT_TRUE(second->host().pin());
  const bool legacy = GetParam() == VirtioInterface::legacy;
  const auto isr = [&](DeviceGuest& guest) {
    return legacy ? guest.old<std::uint8_t>(19)
                  : bus_read<std::uint8_t>(guest.mmio(), guest.bar() + virtio_pci::kIsr);
  };
  EXPECT_EQ(isr(*second) & virtio_pci::kIsrConfig, virtio_pci::kIsrConfig);
}

TEST_P(StateTest, AnInterruptThatIsHeldBackByItsMaskIsSentWhenTheMaskGoes) {
  first->negotiate();
  first->use_messages();
  bus_write<std::uint32_t>(first->mmio(), first->bar() + virtio_pci::kMsixTable + 12,
                           1);  // the configuration's
  first->start();
  first_device->transport().interrupt_config();
  ASSERT_EQ(first->host().line(0).triggers, 0);
  ASSERT_TRUE(move_over());
  expect_same();
  EXPECT_EQ(msix_word(*second, virtio_pci::kMsixPending) & 1, 1U);
  bus_write<std::uint32_t>(second->mmio(), second->bar() + virtio_pci::kMsixTable + 12, 0);
  EXPECT_EQ(second->host().line(0).triggers, 1);
}

TEST_P(StateTest, ABrokenDeviceStillWaitsForItsReset) {
  first->negotiate();
  first->start();
  first_device->transport().needs_reset("the test says so");
  ASSERT_TRUE(move_over());
  EXPECT_EQ(first->status(), second->status());
  EXPECT_EQ(second_device->activations, 0);
  second->bring_up();
  EXPECT_EQ(second_device->activations, 1);
}

TEST_P(StateTest, MovedBarsAndSwitchedOffOnesAreWhereTheyWere) {
  first->negotiate();
  first->start();
  const unsigned bar = GetParam() == VirtioInterface::legacy ? 0x14 : 0x10;
  first->config().write<std::uint32_t>(bar, layout::kPciWindowStart + 0x1000000);
  ASSERT_TRUE(move_over());
  EXPECT_EQ(second->config().read<std::uint32_t>(bar), layout::kPciWindowStart + 0x1000000);
  EXPECT_EQ(second->host().doorbells.size(), first->host().doorbells.size());
  for (const auto& [bell, event] : first->host().doorbells)
    EXPECT_TRUE(second->host().doorbells.contains(bell));
}

TEST_P(StateTest, FeaturesThatThisMachineLacksAreRefusedBeforeDriverOkToo) {
  if (GetParam() == VirtioInterface::legacy) return;  // knows no FEATURES_OK
  first->negotiate();
  StateWriter writer;
  ASSERT_TRUE(first->transport().save(writer));
  // Bit 1 is no feature of the device. The features are the first of the transport's state.
  auto bytes = writer.bytes();
  const std::string name = "virtio";
  const auto part = std::ranges::search(bytes, std::as_bytes(std::span(name)));
  ASSERT_FALSE(part.empty());
  *part.end() |= std::byte{2};
  make(second, second_device);
  StateReader reader(bytes);
  const auto loaded = second->transport().load(reader);
  ASSERT_FALSE(loaded);
  EXPECT_THAT(loaded.error().message, HasSubstr("does not have"));
}

class OtherDevice final : public FakeDevice {
 public:
  explicit OtherDevice(std::vector<std::uint16_t> sizes) : sizes_(std::move(sizes)) {}
  std::span<const std::uint16_t> queue_sizes() const override { return sizes_; }

 private:
  std::vector<std::uint16_t> sizes_;
};

TEST_P(StateTest, ADeviceWithSmallerQueuesIsNoPlaceForIt) {
  StateWriter writer;
  ASSERT_TRUE(first->transport().save(writer));
  const auto load = [&](std::vector<std::uint16_t> sizes) {
    DeviceGuest other(std::make_unique<OtherDevice>(std::move(sizes)), memory, *loop,
                      TransportConfig{.interface = GetParam()});
    StateReader reader(writer.bytes());
    const auto loaded = other.transport().load(reader);
    return loaded ? "" : loaded.error().message;
  };
  EXPECT_EQ(load({64, 32}), "");
  EXPECT_THAT(load({64, 16}), HasSubstr("has a queue of 32, this machine's have at most 16"));
}

class ModernStateTest : public StateTest {};
INSTANTIATE_TEST_SUITE_P(Interfaces, ModernStateTest, testing::Values(VirtioInterface::modern));

TEST_P(ModernStateTest, AQueueThatTheDriverTookBackStaysSo) {
  first->negotiate();
  first->use_messages();
  first->start();
  first->reset_queue(1);
  first->set_common<std::uint64_t>(DeviceGuest::kQueueDesc, 0x123000);
  ASSERT_TRUE(move_over());
  expect_same();
  EXPECT_NE(second_device->queues[0], nullptr);
  EXPECT_EQ(second_device->queues[1], nullptr);
}

TEST_P(ModernStateTest, WhatTheDriverChoseOrWroteComesAlong) {
  first->negotiate();
  first->set_common<std::uint16_t>(DeviceGuest::kQueueSelect, 1);
  first->set_common<std::uint16_t>(DeviceGuest::kQueueSize, 16);
  bus_write<std::uint32_t>(first->mmio(), first->bar() + virtio_pci::kDevice, 0x11223344);
  for (int i = 0; i < 3; ++i) first_device->transport().interrupt_config();
  ASSERT_TRUE(move_over());
  EXPECT_EQ(second->common<std::uint16_t>(DeviceGuest::kQueueSelect), 1);
  EXPECT_EQ(second->common<std::uint8_t>(kGeneration), 3);
  expect_same();
  EXPECT_EQ(bus_read<std::uint32_t>(second->mmio(), second->bar() + virtio_pci::kDevice), 0x11223344U);
  second->set_common<std::uint16_t>(DeviceGuest::kQueueSelect, 1);
  EXPECT_EQ(second->common<std::uint16_t>(DeviceGuest::kQueueSize), 16);
}

TEST_P(ModernStateTest, APackedRingGoesOnInItsSecondRound) {
  packed = true;
  make(first, first_device);
  first->negotiate();
  first->start();
  const QueuePosition second_round{
      .next_available = 3, .next_used = 3, .available_wrap = false, .used_wrap = false};
  ASSERT_TRUE(first_device->queues[0]->set_position(second_round));
  ASSERT_TRUE(move_over());
  EXPECT_EQ(second_device->queues[0]->position(), second_round);
}

}  // namespace
}  // namespace balloon::vmm::test
