// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/power.h"

#include <gtest/gtest.h>
#include <poll.h>

#include "tests/unit/vmm/pci/guest_pci.h"
#include "vmm/arch/x86_64/layout.h"

namespace balloon::vmm::test {
namespace {

class PowerTest : public testing::Test {
 protected:
  PowerTest() {
    EXPECT_TRUE(ports.add("power", layout::kSleepControlPort, PowerPorts::kPorts, power));
    EXPECT_TRUE(ports.add("keyboard", KeyboardReset::kPort, 1, keyboard));
  }
  std::unique_ptr<OutcomeLatch> outcome = std::move(*OutcomeLatch::create());
  PowerPorts power{*outcome};
  KeyboardReset keyboard{*outcome};
  Bus ports;
};

TEST_F(PowerTest, S5WithSleepEnableIsPowerOff) {
  bus_write<std::uint8_t>(ports, layout::kSleepControlPort, 1U << 5 | layout::kSleepTypeS5 << 2);
  ASSERT_TRUE(outcome->get());
  EXPECT_EQ(outcome->get()->ending, Ending::power_off);
  pollfd readable{.fd = outcome->fd(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(::poll(&readable, 1, 0), 1);
}

TEST_F(PowerTest, OtherSleepStatesAndS5WithoutEnableDoNothing) {
  bus_write<std::uint8_t>(ports, layout::kSleepControlPort, layout::kSleepTypeS5 << 2);
  bus_write<std::uint8_t>(ports, layout::kSleepControlPort, 1U << 5 | 3U << 2);
  bus_write<std::uint8_t>(ports, layout::kSleepStatusPort, 0xff);
  EXPECT_FALSE(outcome->get());
  EXPECT_EQ(bus_read<std::uint8_t>(ports, layout::kSleepStatusPort), 0);
}

TEST_F(PowerTest, TheResetRegisterReboots) {
  bus_write<std::uint8_t>(ports, layout::kResetPort, 0);
  EXPECT_FALSE(outcome->get());
  bus_write<std::uint8_t>(ports, layout::kResetPort, layout::kResetValue);
  ASSERT_TRUE(outcome->get());
  EXPECT_EQ(outcome->get()->ending, Ending::reboot);
}

TEST_F(PowerTest, TheKeyboardControllersPulseReboots) {
  bus_write<std::uint8_t>(ports, KeyboardReset::kPort, 0xaa);
  EXPECT_FALSE(outcome->get());
  bus_write<std::uint8_t>(ports, KeyboardReset::kPort, 0xfe);
  ASSERT_TRUE(outcome->get());
  EXPECT_EQ(outcome->get()->ending, Ending::reboot);
  EXPECT_EQ(bus_read<std::uint8_t>(ports, KeyboardReset::kPort), 0) << "never busy";
}

TEST_F(PowerTest, TheChipsetsResetRegisterRebootsAndOtherAccessesReachPci) {
  class Pci final : public BusDevice {
   public:
    void bus_read(std::uint64_t, std::span<std::byte> into) override { into[0] = std::byte{0x77}; }
    void bus_write(std::uint64_t offset, std::span<const std::byte>) override { last = offset; }
    std::uint64_t last = 99;
  } pci;
  PciPorts forward(pci, *outcome);
  ASSERT_TRUE(ports.add("PCI", layout::kPciConfigAddressPort, 8, forward));
  bus_write<std::uint32_t>(ports, 0xcf8, 0x80000e06);  // a configuration address that looks like a reset
  EXPECT_EQ(pci.last, 0U);
  bus_write<std::uint16_t>(ports, 0xcfe, 4);
  EXPECT_EQ(pci.last, 6U);
  EXPECT_EQ(bus_read<std::uint8_t>(ports, 0xcfc), 0x77);
  // As Linux does it: first the kind of reset, then the reset.
  bus_write<std::uint8_t>(ports, 0xcf9, 0x02);
  EXPECT_FALSE(outcome->get());
  EXPECT_EQ(bus_read<std::uint8_t>(ports, 0xcf9), 0x02);
  bus_write<std::uint8_t>(ports, 0xcf9, 0x06);
  ASSERT_TRUE(outcome->get());
  EXPECT_EQ(outcome->get()->ending, Ending::reboot);
}

TEST_F(PowerTest, TheFirstEndingWins) {
  outcome->set(Ending::power_off, "first");
  outcome->set(Ending::failed, "second");
  EXPECT_EQ(outcome->get()->why, "first");
}

}  // namespace
}  // namespace balloon::vmm::test
