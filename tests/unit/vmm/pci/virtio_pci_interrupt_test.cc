// Kicks and interrupts of the transport: doorbells, messages, the pin, and queues that somebody else (vhost)
// serves.
#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include "tests/unit/vmm/pci/virtio_pci_fixture.h"
#include "vmm/arch/x86_64/layout.h"

namespace balloon::vmm::test {
namespace {

using namespace virtio_pci;

TEST_F(VirtioPciTest, AKickReachesTheDeviceAndItsInterruptTheGuest) {
  bring_up();
  ASSERT_TRUE(kick(1));
  EXPECT_TRUE(eventually([&] { return host.line(2).triggers > 0; }));
  EXPECT_GT(kicks(1), 0);
  EXPECT_EQ(host.line(2).message, (MsiMessage{0xfee00000, 0x42}));
  EXPECT_EQ(bus_read<std::uint8_t>(mmio, bar + kIsr), 1) << "queue interrupt";
  EXPECT_EQ(bus_read<std::uint8_t>(mmio, bar + kIsr), 0) << "reading acknowledges";
}

TEST_F(VirtioPciTest, AKickByAnOddWriteWorksToo) {
  bring_up();
  const int before = kicks(0);
  bus_write<std::uint32_t>(mmio, bar + kNotify, 0);
  EXPECT_TRUE(eventually([&] { return kicks(0) > before; }));
}

TEST_F(VirtioPciTest, KicksOfQueuesThatAreNotThereAreIgnored) {
  bring_up();
  bus_write<std::uint16_t>(mmio, bar + kNotify + 2 * kNotifyMultiplier, 2);
  bus_write<std::uint16_t>(mmio, bar + kNotify + 0xffe, 0xffff);
}

TEST_F(VirtioPciTest, AVectorThatIsNotThereReadsBackAsNone) {
  set_common<std::uint16_t>(kConfigVector, 3);
  EXPECT_EQ(common<std::uint16_t>(kConfigVector), kNoVector);
  set_common<std::uint16_t>(kQueueSelect, 0);
  set_common<std::uint16_t>(kQueueVector, 0xfffe);
  EXPECT_EQ(common<std::uint16_t>(kQueueVector), kNoVector);
  set_common<std::uint16_t>(kQueueVector, 2);
  EXPECT_EQ(common<std::uint16_t>(kQueueVector), 2);
}

TEST_F(VirtioPciTest, AConfigurationChangeInterruptsAndCountsItsGeneration) {
  bring_up();
  const auto generation = common<std::uint8_t>(kGeneration);
  device->transport().interrupt_config();
  EXPECT_EQ(host.line(0).triggers, 1);
  EXPECT_NE(common<std::uint8_t>(kGeneration), generation);
  EXPECT_EQ(bus_read<std::uint8_t>(mmio, bar + kIsr) & 2, 2);
}

TEST_F(VirtioPciTest, ADeviceWithoutADriverInterruptsNobody) {
  open_vectors(3);
  set_common<std::uint16_t>(kConfigVector, 0);
  device->transport().interrupt_config();
  device->transport().interrupt_queue(0);
  device->transport().interrupt_queue(99);
  EXPECT_EQ(host.line(0).triggers, 0);
}

TEST_F(VirtioPciTest, WithoutMsixItsPinInterrupts) {
  negotiate();
  set_up_queue(0, queue0.layout());
  set_status(kAccepted | kDriverOk);
  device->transport().interrupt_config();
  EXPECT_TRUE(host.pin());
  EXPECT_EQ(bus_read<std::uint8_t>(mmio, bar + kIsr) & 2, 2);
  ASSERT_TRUE(eventually([&] { return kicks(0) > 0; }));  // the look that follows DRIVER_OK
  EXPECT_TRUE(eventually([&] { return (bus_read<std::uint8_t>(mmio, bar + kIsr), !host.pin()); }));
}

TEST_F(VirtioPciTest, WithMsixItsPinIsStill) {
  bring_up();
  device->transport().interrupt_config();
  EXPECT_FALSE(host.pin());
}

TEST_F(VirtioPciTest, DoorbellsFollowTheBar) {
  EXPECT_TRUE(host.doorbells.contains({bar + kNotify}));
  const std::uint32_t moved = layout::kPciWindowStart + 0x1000000;
  config.write<std::uint32_t>(0x10, moved);
  EXPECT_FALSE(host.doorbells.contains({bar + kNotify}));
  EXPECT_TRUE(host.doorbells.contains({moved + kNotify + kNotifyMultiplier}));
  config.write<std::uint16_t>(0x04, 0);
  EXPECT_TRUE(host.doorbells.empty());
}

TEST_F(VirtioPciTest, KicksOfALentQueueGoElsewhereUntilTheReset) {
  bring_up();
  ASSERT_TRUE(eventually([&] { return kicks(0) > 0 && kicks(1) > 0; }));
  const int before = kicks(0);
  const UniqueFd elsewhere(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  {
    const std::lock_guard lock(device->mutex);
    device->transport().divert_kicks(0, elsewhere.get());
  }
  ASSERT_TRUE(kick(0));
  std::uint64_t count = 0;
  EXPECT_EQ(::read(elsewhere.get(), &count, sizeof count), static_cast<ssize_t>(sizeof count));
  // So do kicks that KVM did not take: of an odd width.
  bus_write<std::uint32_t>(mmio, bar + kNotify, 0);
  EXPECT_EQ(::read(elsewhere.get(), &count, sizeof count), static_cast<ssize_t>(sizeof count));
  EXPECT_EQ(kicks(0), before);
  set_status(0);
  bring_up();
  EXPECT_TRUE(eventually([&] { return kicks(0) > before; })) << "the device's own again";
}

TEST_F(VirtioPciTest, TheInterruptOfALentQueueIsThatOfItsVector) {
  bring_up();
  const std::lock_guard lock(device->mutex);
  EXPECT_EQ(device->transport().interrupt_event(0), host.lines[1].event);
  EXPECT_EQ(device->transport().interrupt_event(1), host.lines[2].event);
  EXPECT_EQ(device->transport().interrupt_event(2), -1);
}

TEST_F(VirtioPciTest, VectorsThatNeverWereOrAreTakenAwayUnderALentQueueHarmNothing) {  // CVE-2024-4693
  for (int life = 0; life < 3; ++life) {
    set_status(0);
    if (life > 0) open_vectors(3);  // in the first life MSI-X stays off, and no vector is ever set
    negotiate();
    if (life == 2) set_common<std::uint16_t>(kConfigVector, 0);
    set_up_queue(0, queue0.layout());
    set_status(kAccepted | kDriverOk);
    for (const std::uint16_t vector : {std::uint16_t{2}, kNoVector, std::uint16_t{77}, std::uint16_t{1}}) {
      {
        const std::lock_guard lock(device->mutex);
        const int event = device->transport().interrupt_event(0);
        EXPECT_TRUE(event == -1 || life > 0) << "without MSI-X there is none to lend";
      }
      set_common<std::uint16_t>(kQueueSelect, 0);
      set_common<std::uint16_t>(kQueueVector, vector);
      set_common<std::uint16_t>(kConfigVector, vector);
      device->transport().interrupt_config();
      device->transport().interrupt_queue(0);
    }
  }
  root.reset();
  EXPECT_TRUE(host.doorbells.empty());
}

}  // namespace
}  // namespace balloon::vmm::test
