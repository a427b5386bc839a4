// SPDX-License-Identifier: Apache-2.0
#include "vmm/pci/msix.h"

#include <gtest/gtest.h>

#include "tests/unit/vmm/pci/guest_pci.h"
#include "vmm/snapshot/state_stream.h"

namespace balloon::vmm::test {
namespace {

class MsixTest : public testing::Test {
 protected:
  MsixTest() : msix(make_lines()) {}
  std::vector<std::unique_ptr<MsiLine>> make_lines() {
    std::vector<std::unique_ptr<MsiLine>> lines;
    for (int i = 0; i < 3; ++i) lines.push_back(*host.new_msi_line());
    return lines;
  }
  void write(std::uint64_t offset, std::uint32_t value) {
    msix.write_table(offset, std::as_bytes(std::span(&value, 1)));
  }
  std::uint32_t read(std::uint64_t offset) const {
    std::uint32_t value = 0;
    msix.read_table(offset, std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }
  std::uint64_t pending() const {
    std::uint64_t value = 0;
    msix.read_pending(0, std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }
  void program(std::uint16_t vector, std::uint32_t data) {
    write(vector * 16U, 0xfee00000);
    write(vector * 16U + 4, 0);
    write(vector * 16U + 8, data);
    write(vector * 16U + 12, 0);
  }

  FakePciHost host;
  Msix msix;
};

TEST_F(MsixTest, EveryVectorStartsMasked) { EXPECT_EQ(read(12), 1U); }

TEST_F(MsixTest, AnOpenVectorSendsItsMessage) {
  msix.set_control(Msix::kControlEnable);
  program(1, 0x41);
  msix.trigger(1);
  EXPECT_EQ(host.lines[1].triggers, 1);
  EXPECT_EQ(host.lines[1].message, (MsiMessage{0xfee00000, 0x41}));
}

TEST_F(MsixTest, NothingIsSentWhileMsixIsOff) {
  program(1, 0x41);
  msix.trigger(1);
  EXPECT_EQ(host.lines[1].triggers, 0);
  EXPECT_EQ(pending(), 0U);
}

TEST_F(MsixTest, AMaskedVectorIsPendingAndSentOnceWhenUnmasked) {
  msix.set_control(Msix::kControlEnable);
  program(2, 0x42);
  write(2 * 16 + 12, 1);
  msix.trigger(2);
  msix.trigger(2);
  EXPECT_EQ(host.lines[2].triggers, 0);
  EXPECT_EQ(pending(), 4U);
  write(2 * 16 + 12, 0);
  EXPECT_EQ(host.lines[2].triggers, 1);
  EXPECT_EQ(pending(), 0U);
}

TEST_F(MsixTest, TheFunctionMaskHoldsAllVectorsBack) {
  msix.set_control(Msix::kControlEnable | Msix::kControlFunctionMask);
  program(0, 0x40);
  msix.trigger(0);
  EXPECT_EQ(host.lines[0].triggers, 0);
  msix.set_control(Msix::kControlEnable);
  EXPECT_EQ(host.lines[0].triggers, 1);
}

TEST_F(MsixTest, AChangedMessageIsRoutedBeforeTheNextInterrupt) {
  msix.set_control(Msix::kControlEnable);
  program(0, 0x40);
  program(0, 0x50);
  msix.trigger(0);
  EXPECT_EQ(host.lines[0].message, (MsiMessage{0xfee00000, 0x50}));
}

TEST_F(MsixTest, AnUnchangedMessageIsNotRoutedAgain) {
  msix.set_control(Msix::kControlEnable);
  program(0, 0x40);
  const int routes = host.lines[0].routes;
  write(12, 1);
  write(12, 0);
  msix.trigger(0);
  EXPECT_EQ(host.lines[0].routes, routes);
}

TEST_F(MsixTest, AMessageThatTheHypervisorRefusesIsDroppedQuietly) {
  host.refuse_routes = true;
  msix.set_control(Msix::kControlEnable);
  program(0, 0x40);
  msix.trigger(0);
  EXPECT_EQ(host.lines[0].triggers, 0);
}

TEST_F(MsixTest, AccessesOutsideTheTableOrOfOddSizesAreHarmless) {
  msix.set_control(Msix::kControlEnable);
  write(3 * 16, 0xffffffff);
  write(0xfffffffffffffff0, 0xffffffff);
  EXPECT_EQ(read(3 * 16), 0U);
  EXPECT_EQ(read(0xfffffffffffffffc), 0U);
  std::uint16_t half = 0xffff;
  msix.write_table(0, std::as_bytes(std::span(&half, 1)));
  EXPECT_EQ(read(0), 0U);
  write(2, 0xffffffff);  // not aligned
  EXPECT_EQ(read(0), 0U);
  msix.trigger(3);
  msix.trigger(0xffff);
}

// Vectors that somebody else signals (vhost)

TEST_F(MsixTest, AVectorCanBeSignalledPastUs) {
  EXPECT_EQ(msix.direct(1), -1) << "MSI-X is off";
  msix.set_control(Msix::kControlEnable);
  program(1, 0x41);
  EXPECT_EQ(msix.direct(1), host.lines[1].event);
  EXPECT_EQ(host.lines[1].message, (MsiMessage{0xfee00000, 0x41})) << "routed before the first signal";
  EXPECT_FALSE(host.lines[1].held);
  EXPECT_EQ(msix.direct(3), -1) << "no such vector";
}

TEST_F(MsixTest, WhatComesThereWhileItIsMaskedIsPendingAndSentWhenUnmasked) {
  msix.set_control(Msix::kControlEnable);
  program(1, 0x41);
  const int event = msix.direct(1);
  write(16 + 12, 1);
  EXPECT_TRUE(host.lines[1].held);
  EXPECT_EQ(pending(), 0U);
  const std::uint64_t one = 1;
  ASSERT_EQ(::write(event, &one, sizeof one), static_cast<ssize_t>(sizeof one));
  EXPECT_EQ(pending(), 2U);
  EXPECT_EQ(host.lines[1].triggers, 0);
  program(1, 0x51);  // moved to another CPU meanwhile
  EXPECT_FALSE(host.lines[1].held);
  EXPECT_EQ(host.lines[1].message, (MsiMessage{0xfee00000, 0x51}));
  EXPECT_EQ(host.lines[1].triggers, 1);
  EXPECT_EQ(pending(), 0U);
}

TEST_F(MsixTest, AMaskedVectorIsHeldFromTheStart) {
  msix.set_control(Msix::kControlEnable);
  EXPECT_EQ(msix.direct(1), host.lines[1].event);
  EXPECT_TRUE(host.lines[1].held);
  msix.end_direct();
  EXPECT_FALSE(host.lines[1].held);
}

TEST_F(MsixTest, WhatWasSignalledWhileMaskedOutlivesTheEndOfDirectSignals) {
  msix.set_control(Msix::kControlEnable);
  const int event = msix.direct(1);
  const std::uint64_t one = 1;
  ASSERT_EQ(::write(event, &one, sizeof one), static_cast<ssize_t>(sizeof one));
  msix.end_direct();
  EXPECT_EQ(pending(), 2U);
  program(1, 0x41);
  EXPECT_EQ(host.lines[1].triggers, 1);
}

TEST_F(MsixTest, WhatWasSignalledWhileMaskedIsPendingInASnapshotAndNothingElseIs) {
  msix.set_control(Msix::kControlEnable);
  const int event = msix.direct(1);
  msix.direct(2);
  const std::uint64_t one = 1;
  ASSERT_EQ(::write(event, &one, sizeof one), static_cast<ssize_t>(sizeof one));
  StateWriter writer;
  msix.save(writer);
  Msix other(make_lines());
  StateReader reader(writer.bytes());
  ASSERT_TRUE(other.load(reader));
  std::byte pending{};
  other.read_pending(0, std::span(&pending, 1));
  EXPECT_EQ(pending, std::byte{2});
}

TEST_F(MsixTest, ReservedBitsOfVectorControlStayZero) {
  write(12, 0xffffffff);
  EXPECT_EQ(read(12), 1U);
}

}  // namespace
}  // namespace balloon::vmm::test
