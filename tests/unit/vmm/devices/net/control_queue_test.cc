// SPDX-License-Identifier: Apache-2.0
// The control queue, by what it does to a real tap.
#include <gmock/gmock.h>

#include <cstring>

#include "tests/unit/vmm/address_literals.h"
#include "tests/unit/vmm/devices/net/net_fixture.h"

namespace balloon::vmm::test {
namespace {

using namespace net_feature;  // NOLINT: what the tests negotiate

constexpr std::uint16_t kControl = 2;

class ControlTest : public NetTest {
 protected:
  void SetUp() override { start(~0ULL); }
  /// Sends a command; its answer, or 255 when there was none.
  std::uint8_t command(const std::vector<std::uint8_t>& bytes) {
    ChainBuilder builder(queue(kControl));
    builder.readable_values(bytes).writable(1);
    builder.submit();
    const auto used = driver_->kick_and_wait(kControl);
    if (!used || used->length != 1) return 255;
    return static_cast<std::uint8_t>(bytes_at(builder.address(1), 1)[0]);
  }
  std::vector<std::byte> to(const MacAddress& mac, std::size_t size) {
    auto bytes = frame(size);
    std::memcpy(bytes.data(), mac.data(), mac.size());
    return bytes;
  }
  /// Whether the next frame that the guest gets is of this size.
  bool next_is(std::uint32_t size) {
    const auto used = wait_received();
    return used && used->length == size + 12;
  }
  static constexpr MacAddress kOwn = {2, 0, 0, 0, 0, 7};
  static constexpr MacAddress kOther = {2, 0, 0, 0, 0, 9};
  static constexpr MacAddress kGroup = {1, 0, 0x5e, 0, 0, 5};
};

TEST_F(ControlTest, TheGuestGetsEverythingUntilItAsksForLess) {
  for (int i = 0; i < 8; ++i) post_buffer(2000);
  tap_.send(to(kOther, 100));
  EXPECT_TRUE(next_is(100));
  EXPECT_EQ(command({0, 0, 0}), 0);                       // not promiscuous
  EXPECT_EQ(command({1, 0, 0, 0, 0, 0, 0, 0, 0, 0}), 0);  // empty tables
  tap_.send(to(kOther, 101));
  tap_.send(to(kGroup, 102));
  tap_.send(to(kOwn, 103));
  EXPECT_TRUE(next_is(103)) << "only its own";
  tap_.send(frame(104));  // broadcast
  EXPECT_TRUE(next_is(104));
  EXPECT_EQ(command({0, 1, 1}), 0);  // all multicast
  tap_.send(to(kGroup, 105));
  EXPECT_TRUE(next_is(105));
  EXPECT_EQ(command({0, 0, 1}), 0);  // promiscuous again
  tap_.send(to(kOther, 106));
  EXPECT_TRUE(next_is(106));
}

TEST_F(ControlTest, AddressesOfTheTableReachTheGuest) {
  for (int i = 0; i < 4; ++i) post_buffer(2000);
  EXPECT_EQ(command({0, 0, 0}), 0);
  EXPECT_EQ(command({1, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 9, 1, 0, 0, 0, 1, 0, 0x5e, 0, 0, 5}), 0);
  tap_.send(to({2, 0, 0, 0, 0, 8}, 100));
  tap_.send(to(kOther, 101));
  EXPECT_TRUE(next_is(101));
  tap_.send(to(kGroup, 102));
  EXPECT_TRUE(next_is(102));
}

TEST_F(ControlTest, AResetEndsTheFilter) {
  EXPECT_EQ(command({0, 0, 0}), 0);
  EXPECT_EQ(command({1, 0, 0, 0, 0, 0, 0, 0, 0, 0}), 0);
  driver_->reset();
  driver_->start(kPlain);
  post_buffer();
  tap_.send(to(kOther, 100));
  EXPECT_TRUE(next_is(100));
}

TEST_F(ControlTest, TheGuestMayChangeItsAddressUntilTheReset) {
  EXPECT_EQ(command({1, 1, 2, 1, 1, 1, 1, 1}), 0);
  EXPECT_EQ(driver_->read_config<MacAddress>(0), (MacAddress{2, 1, 1, 1, 1, 1}));
  EXPECT_EQ(command({1, 1, 1, 1, 1, 1, 1, 1}), 1) << "multicast";
  EXPECT_EQ(command({1, 1, 0, 0, 0, 0, 0, 0}), 1) << "none";
  driver_->reset();
  EXPECT_EQ(driver_->read_config<MacAddress>(0), kOwn);
}

TEST_F(ControlTest, AnAnnouncementIsAskedForAndAcknowledged) {
  EXPECT_TRUE(net_->announce());
  EXPECT_EQ(driver_->read_config<std::uint16_t>(6), 3U);
  EXPECT_EQ(driver_->host().config_interrupts(), 1);
  EXPECT_EQ(command({3, 0}), 0);
  EXPECT_EQ(driver_->read_config<std::uint16_t>(6), 1U);
}

TEST_F(ControlTest, OffloadsAreSwitchedAmongThoseNegotiated) {
  EXPECT_NE(net_->state().offloads, 0U);
  EXPECT_EQ(command({5, 0, 0, 0, 0, 0, 0, 0, 0, 0}), 0);
  EXPECT_EQ(net_->state().offloads, 0U);
  EXPECT_EQ(command({5, 0, 2, 0, 0, 0, 0, 0, 0, 0}), 0);  // GUEST_CSUM
  EXPECT_EQ(net_->state().offloads, 1U);
  EXPECT_EQ(command({5, 0, 1, 0, 0, 0, 0, 0, 0, 0}), 1) << "CSUM is not the guest's";
  EXPECT_EQ(command({5, 0, 0, 0, 0, 0, 0, 0, 0, 0x80}), 1);
  EXPECT_NE(net_->state().offloads, 0U);
  driver_->reset();
  EXPECT_EQ(net_->state().offloads, 0U) << "the next driver has to ask for them";
}

TEST_F(ControlTest, WhatIsNotOfferedIsRefused) {
  EXPECT_EQ(command({2, 0, 1, 0}), 1) << "VLAN filter";
  EXPECT_EQ(command({0, 2, 1}), 1) << "RX_EXTRA";
  EXPECT_EQ(command({4, 0, 2, 0}), 1) << "queue pairs, of a device with one";
  EXPECT_EQ(command({4, 1}), 1) << "RSS";
  EXPECT_EQ(command({99, 99}), 1);
}

TEST_F(ControlTest, CommandsThatAreCutOffAreRefused) {
  EXPECT_EQ(command({0}), 1);
  EXPECT_EQ(command({0, 0}), 1);
  EXPECT_EQ(command({1, 0, 1, 0}), 1);
  EXPECT_EQ(command({1, 0, 2, 0, 0, 0, 2, 0, 0, 0, 0, 9}), 1) << "a table shorter than its count";
  EXPECT_EQ(command({1, 0, 0xff, 0xff, 0xff, 0xff, 0, 0}), 1) << "a count that wraps";
  EXPECT_EQ(command({1, 0, 0, 0, 0, 0}), 1) << "one table";
  EXPECT_EQ(command({1, 1, 2}), 1);
  EXPECT_EQ(command({5, 0, 0}), 1);
}

TEST_F(ControlTest, ACommandWithoutRoomForItsAnswerHarmsNothing) {
  ChainBuilder(queue(kControl)).readable_values<std::uint8_t>({0, 0, 0}).submit();
  const auto used = driver_->kick_and_wait(kControl);
  ASSERT_TRUE(used);
  EXPECT_EQ(used->length, 0U);
  EXPECT_EQ(command({0, 0, 1}), 0);
}

TEST_F(ControlTest, AnAnswerIsOneByteHoweverMuchRoomThereIs) {
  ChainBuilder(queue(kControl)).readable_values<std::uint8_t>({0, 0, 1}).writable(4).submit();
  const auto used = driver_->kick_and_wait(kControl);
  ASSERT_TRUE(used);
  EXPECT_EQ(used->length, 1U);
}

TEST_F(ControlTest, ATableThatIsTooLargeMeansAllFrames) {
  post_buffer(2000);
  EXPECT_EQ(command({0, 0, 0}), 0);
  std::vector<std::uint8_t> table = {1, 0, 200, 0, 0, 0};
  for (int i = 0; i < 200; ++i) table.insert(table.end(), {2, 0, 0, 0, 1, static_cast<std::uint8_t>(i)});
  table.insert(table.end(), {0, 0, 0, 0});
  EXPECT_EQ(command(table), 0);
  tap_.send(to(kOther, 100));
  EXPECT_TRUE(next_is(100));
}

TEST(ControlWithoutFeaturesTest, CommandsOfFeaturesThatWereNotNegotiatedAreRefused) {
  struct None : NetCommands {
    ReceiveFilter& filter() override { return filter_; }
    bool filter_changed() override { return true; }
    bool set_mac(const MacAddress&) override { return true; }
    bool announced() override { return true; }
    bool set_queue_pairs(unsigned) override { return true; }
    bool set_guest_offloads(std::uint64_t) override { return true; }
    ReceiveFilter filter_;
  } commands;
  const GuestMemory memory = make_memory(4 * kMiB);
  FakeQueue fake(memory, 1_MiB, 64);
  auto queue = VirtQueue::create(memory, fake.layout());
  ASSERT_TRUE(queue);
  for (const std::vector<std::uint8_t>& bytes : {std::vector<std::uint8_t>{0, 0, 1},
                                                 {1, 1, 2, 0, 0, 0, 0, 1},
                                                 {3, 0},
                                                 {4, 0, 1, 0},
                                                 {5, 0, 0, 0, 0, 0, 0, 0, 0, 0}}) {
    ChainBuilder builder(fake);
    builder.readable_values(bytes).writable(1);
    builder.submit();
    auto chain = queue->take();
    ASSERT_TRUE(chain && *chain);
    EXPECT_EQ(answer_control(**chain, kCtrlVq, commands), 1U);
    EXPECT_EQ(memory.read<std::uint8_t>(builder.address(1)), kControlError);
    queue->put(std::move(**chain), 1);
  }
}

}  // namespace
}  // namespace balloon::vmm::test
