// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/net/net.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <ctime>
#include <thread>

#include "tests/unit/vmm/address_literals.h"
#include "tests/unit/vmm/devices/net/net_fixture.h"
#include "tests/unit/vmm/manual_clock.h"
#include "tests/unit/vmm/virtio/fake_driver.h"

namespace balloon::vmm {
namespace {

using test::catch_up;
using test::ChainBuilder;
using test::eventually;
using test::FakeDriver;
using test::frame;
using test::HostTap;
using test::kReceive;
using test::kSend;
using test::kTap;
using test::NetTest;
using ::testing::HasSubstr;

[[maybe_unused]] const auto* const kNamespace = ::testing::AddGlobalTestEnvironment(new test::Namespace);

// Identity

TEST_F(NetTest, TheDriverTakesAQueueBackAndGivesItAgain) {  // RING_RESET
  start();
  const GuestAddress old = post_buffer();
  driver_->reset_queue(kReceive);
  tap_.send(frame(60));
  send(no_offload_, frame(70, 2));
  EXPECT_EQ(tap_.receive(), frame(70, 2)) << "the other queue goes on";
  EXPECT_EQ(bytes_at(old, 64), std::vector<std::byte>(64)) << "its buffers are the driver's again";
  driver_->restart_queue(kReceive);
  const GuestAddress buffer = post_buffer();
  ASSERT_TRUE(wait_received());
  EXPECT_EQ(bytes_at(buffer + 12, 60), frame(60)) << "the frame waited in the tap";

  driver_->reset_queue(kSend);
  driver_->restart_queue(kSend);
  send(no_offload_, frame(80, 3));
  EXPECT_EQ(tap_.receive(), frame(80, 3));
}

TEST_F(NetTest, TellsItsAddressAndThatTheLinkIsUp) {
  start();
  EXPECT_EQ(net_->id(), DeviceId::net);
  EXPECT_EQ(net_->name(), "net tap-test");
  EXPECT_EQ(driver_->read_config<MacAddress>(0), (MacAddress{2, 0, 0, 0, 0, 7}));
  EXPECT_EQ(driver_->read_config<std::uint16_t>(6), 1U);
  driver_->write_config<std::uint64_t>(0, ~0ULL);
  EXPECT_EQ(driver_->read_config<MacAddress>(0), (MacAddress{2, 0, 0, 0, 0, 7}));
}

TEST_F(NetTest, WithoutAnAddressItMakesALocalUnicastOne) {
  auto net = test::create_net({.tap = kTap}, memory_, *loop_, kernel_);
  ASSERT_TRUE(net);
  MacAddress mac;
  (*net)->read_config(0, std::as_writable_bytes(std::span(mac)));
  EXPECT_EQ(mac[0] & 3, 2);
}

// Receiving

TEST_F(NetTest, AFrameReachesTheGuestBehindAnEmptyHeader) {
  start();
  const GuestAddress buffer = post_buffer();
  tap_.send(frame(200));
  const auto used = wait_received();
  ASSERT_TRUE(used);
  EXPECT_EQ(used->length, 212U);
  std::vector<std::byte> header(12);
  header[10] = std::byte{1};  // num_buffers (5.1.6.4.1)
  EXPECT_EQ(bytes_at(buffer, 12), header);
  EXPECT_EQ(bytes_at(buffer + 12, 200), frame(200));
  EXPECT_TRUE(eventually([&] { return driver_->host().queue_interrupts(kReceive) == 1; }));
}

TEST_F(NetTest, AFrameIsSplitOverTheBuffersOfAChain) {
  start();
  ChainBuilder builder(queue(kReceive));
  builder.writable(5).writable(100).writable(2000).submit();
  driver_->kick(kReceive);
  tap_.send(frame(1514));
  const auto used = wait_received();
  ASSERT_TRUE(used);
  EXPECT_EQ(used->length, 1526U);
  const auto expected = frame(1514);
  EXPECT_EQ(bytes_at(builder.address(1) + 7, 93), std::vector(expected.begin(), expected.begin() + 93));
  EXPECT_EQ(bytes_at(builder.address(2), 1421), std::vector(expected.begin() + 93, expected.end()));
}

TEST_F(NetTest, FramesWaitInTheTapWithoutSpinningUntilTheGuestHasBuffers) {  // CVE-2020-16843
  start();
  for (int i = 0; i < 5; ++i) tap_.send(frame(100, i));
  ASSERT_TRUE(eventually([&] { return net_->counters().starved > 0; }));
  const double before = cpu_seconds();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_LT(cpu_seconds() - before, 0.1) << "the loop spins on a readable tap";
  EXPECT_EQ(net_->counters().starved, 1U);
  for (int round = 0; round < 3; ++round) {  // starve, recover, starve again
    for (int i = 0; i < 5; ++i) {
      const GuestAddress buffer = post_buffer();
      ASSERT_TRUE(wait_received()) << "ingress froze";
      EXPECT_EQ(bytes_at(buffer + 12, 100), frame(100, i));
    }
    for (int i = 0; i < 5; ++i) tap_.send(frame(100, i));
  }
}

TEST_F(NetTest, AStormOfFramesWithFewBuffersLosesNoneInTheDevice) {
  start();
  constexpr int kFrames = 400;  // fits into the tap's queue of 500 (TUN_READQ_SIZE)
  for (int i = 0; i < kFrames; ++i) tap_.send(frame(60, i));
  const GuestAddress buffer = queue(kReceive).allocate(1530);
  for (int i = 0; i < kFrames; ++i) {
    ChainBuilder(queue(kReceive)).writable_at(buffer, 1530).submit();
    driver_->kick(kReceive);
    ASSERT_TRUE(wait_received()) << i;
    ASSERT_EQ(bytes_at(buffer + 12, 60), frame(60, i)) << i;
  }
  EXPECT_EQ(net_->counters().received, static_cast<std::uint64_t>(kFrames));
}

TEST_F(NetTest, AFrameLargerThanTheBufferIsDroppedAndTheNextOneUsesIt) {
  tap_.set_mtu(9000);
  start();
  const GuestAddress buffer = post_buffer(1530);
  tap_.send(frame(1519));
  tap_.send(frame(5000));
  tap_.send(frame(1518, 5));  // exactly what it holds
  const auto used = wait_received();
  ASSERT_TRUE(used);
  EXPECT_EQ(used->length, 1530U);
  EXPECT_EQ(bytes_at(buffer + 12, 1518), frame(1518, 5));
  EXPECT_EQ(net_->counters().received_too_large, 2U);
  EXPECT_EQ(net_->counters().received, 1U);
}

TEST_F(NetTest, ReceiveBuffersTooSmallForAFrameAreReturnedEmpty) {
  start();
  for (const std::uint32_t size : {1U, 12U, 1525U}) post_buffer(size);
  ChainBuilder(queue(kReceive)).readable(frame(2000)).submit();
  driver_->kick(kReceive);
  const GuestAddress good = post_buffer(1526);
  tap_.send(frame(60));
  for (int i = 0; i < 4; ++i) {
    const auto used = wait_received();
    ASSERT_TRUE(used);
    EXPECT_EQ(used->length, 0U) << i;
  }
  const auto used = wait_received();
  ASSERT_TRUE(used);
  EXPECT_EQ(used->length, 72U);
  EXPECT_EQ(bytes_at(good + 12, 60), frame(60));
  EXPECT_EQ(net_->counters().receive_malformed, 4U);
}

TEST_F(NetTest, UselessReceiveBuffersAreReturnedInTurns) {
  const GuestMemory memory = test::make_memory(2 * kMiB);
  test::FakeQueue useless(memory, 0x1000, 256);
  auto queue = VirtQueue::create(memory, useless.layout());
  ASSERT_TRUE(queue);
  const GuestAddress small = useless.allocate(16);
  for (int i = 0; i < 256; ++i) test::ChainBuilder(useless).writable_at(small, 16).submit();
  auto taps = Tap::open(test::kTap, 1, false);
  ASSERT_TRUE(taps) << taps.error().message;
  Receiver receiver;
  receiver.start({.features = kFeatureVersion1, .tap_header = false}, 256);
  for (int turn = 1; turn <= 8; ++turn) {
    TurnBudget budget;
    const auto outcome = receiver.receive(*queue, (*taps)[0], budget);
    ASSERT_TRUE(outcome);
    EXPECT_EQ(*outcome, Receiver::Outcome::turn_over) << "turn " << turn;
    EXPECT_EQ(useless.used_index(), turn * TurnBudget::kChains);
  }
  TurnBudget budget;
  EXPECT_EQ(*receiver.receive(*queue, (*taps)[0], budget), Receiver::Outcome::starved);
}

// Sending

TEST_F(NetTest, AFrameOfTheGuestReachesTheTapWithoutItsHeader) {
  start();
  send(no_offload_, frame(300));
  EXPECT_EQ(tap_.receive(), frame(300));
  EXPECT_EQ(net_->counters().sent, 1U);
  EXPECT_EQ(driver_->host().queue_interrupts(kSend), 1);
}

TEST_F(NetTest, TheGuestHearsOfEachFrameThatIsOutBeforeTheNextOneIsSent) {
  start(kPlain & ~kFeatureEventIdx);
  std::vector<std::byte> whole = no_offload_;
  whole.resize(100);
  for (int i = 0; i < 3; ++i) ChainBuilder(queue(kSend)).readable(whole).submit();
  driver_->kick(kSend);
  EXPECT_EQ(net_->counters().sent, 3U);
  EXPECT_EQ(driver_->host().queue_interrupts(kSend), 3);
}

TEST_F(NetTest, HeaderAndFrameMayShareOrSplitBuffers) {
  start();
  auto all = no_offload_;
  const auto data = frame(128);
  all.insert(all.end(), data.begin(), data.end());
  send({}, all);
  EXPECT_EQ(tap_.receive(), data);
  ChainBuilder(queue(kSend))
      .readable(std::span(all).first(3))
      .readable(std::span(all).subspan(3, 20))
      .readable(std::span(all).subspan(23))
      .submit_indirect();
  ASSERT_TRUE(driver_->kick_and_wait(kSend));
  EXPECT_EQ(tap_.receive(), data);
}

TEST_F(NetTest, OffloadsThatWereNotNegotiatedDoNotReachTheHost) {  // openvmm #3128, CVE-2023-6693
  start();
  std::vector<std::byte> header(12, std::byte{0xff});
  send(header, frame(300));
  EXPECT_EQ(tap_.receive(), frame(300)) << "the frame goes as it is";
}

TEST_F(NetTest, FramesWithoutAPlausibleSizeAreDroppedAndReturned) {
  start();
  send({}, std::vector<std::byte>(5));  // half a header
  send(no_offload_, {});                // a header alone
  send(no_offload_, std::vector<std::byte>(13));
  ChainBuilder(queue(kSend)).readable_at(8_MiB, 1_MiB).submit();  // 1 MiB of frame
  ASSERT_TRUE(driver_->kick_and_wait(kSend));
  ChainBuilder(queue(kSend)).writable(2000).submit();  // nothing to read
  ASSERT_TRUE(driver_->kick_and_wait(kSend));
  EXPECT_EQ(net_->counters().send_malformed, 5U);
  EXPECT_EQ(net_->counters().sent, 0U);
  send(no_offload_, frame(60));
  EXPECT_EQ(tap_.receive(), frame(60));
}

TEST_F(NetTest, AFullRingIsSentWithOneKick) {
  start();
  for (int i = 0; i < 100; ++i) {
    auto all = no_offload_;
    const auto data = frame(60, i);
    all.insert(all.end(), data.begin(), data.end());
    ChainBuilder(queue(kSend)).readable(all).submit();
  }
  driver_->kick(kSend);
  for (int i = 0; i < 100; ++i) ASSERT_EQ(tap_.receive(), frame(60, i));
}

TEST_F(NetTest, FramesAreDroppedWhileTheInterfaceIsDownAndFlowAgainAfterwards) {
  start();
  tap_.set_up(false);
  send(no_offload_, frame(60));
  EXPECT_EQ(net_->counters().send_dropped, 1U);
  tap_.set_up(true);
  send(no_offload_, frame(61));
  EXPECT_EQ(tap_.receive(), frame(61));
  post_buffer();
  tap_.send(frame(62));
  EXPECT_TRUE(wait_received());
  EXPECT_EQ(driver_->read_config<std::uint16_t>(6), 1U);
}

// Broken guests, resets, a tap that goes away

TEST_F(NetTest, ABrokenChainAsksForAResetAndTheDeviceWorksAgainAfterIt) {
  start();
  for (const std::uint16_t index : {kReceive, kSend}) {
    driver_.emplace(*net_, memory_);
    driver_->start(kPlain);
    ChainBuilder builder(queue(index));
    index == kReceive ? builder.writable_at(memory_.size().count(), 2000)
                      : builder.readable_at(memory_.size().count(), 2000);
    builder.submit();
    driver_->kick(index);
    if (index == kReceive)
      tap_.send(frame(60));  // the receive queue is looked at when there is something for it
    EXPECT_TRUE(eventually([&] { return !driver_->host().reset_reason().empty(); }));
    EXPECT_THAT(driver_->host().reset_reason(), HasSubstr("not in guest RAM"));
    driver_->reset();
    driver_->start(kPlain);
    send(no_offload_, frame(64));
    EXPECT_EQ(tap_.receive(), frame(64));
    if (index == kReceive) {
      post_buffer();
      EXPECT_TRUE(wait_received()) << "the frame that found the broken queue";
    }
  }
}

TEST_F(NetTest, AResetWhileABufferIsHeldWritesNothingToTheOldRing) {
  start();
  const GuestAddress buffer = post_buffer();
  tap_.send(frame(60));
  ASSERT_TRUE(wait_received());
  const GuestAddress held = post_buffer();
  driver_->reset();
  tap_.send(frame(61, 9));
  catch_up(*loop_);
  EXPECT_EQ(queue(kReceive).used_index(), 1);
  EXPECT_EQ(bytes_at(buffer + 12, 60), frame(60));
  EXPECT_EQ(bytes_at(held, 1530), std::vector<std::byte>(1530));
  // The next driver gets the frame that waited.
  driver_->start(kPlain);
  const GuestAddress next = post_buffer();
  ASSERT_TRUE(wait_received());
  EXPECT_EQ(bytes_at(next + 12, 61), frame(61, 9));
}

TEST_F(NetTest, ManyResetsUnderTrafficHarmNothing) {
  start();
  std::atomic<bool> stop = false;
  std::jthread traffic([&] {
    while (!stop) {
      tap_.send(frame(60));
      std::this_thread::yield();
    }
  });
  for (int round = 0; round < 50; ++round) {
    driver_->reset();
    driver_->start(kPlain);
    for (int i = 0; i < 4; ++i) post_buffer();
    ASSERT_TRUE(wait_received()) << round;
  }
  stop = true;
}

TEST_F(NetTest, WhenTheTapIsDeletedTheLinkGoesDownAndNothingSpins) {
  start();
  post_buffer();
  tap_.remove_link();
  EXPECT_TRUE(eventually([&] { return driver_->read_config<std::uint16_t>(6) == 0; }));
  EXPECT_EQ(driver_->host().config_interrupts(), 1);
  const double before = cpu_seconds();
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_LT(cpu_seconds() - before, 0.1);
  send(no_offload_, frame(60));
  EXPECT_EQ(net_->counters().send_dropped, 1U);
}

// What can be wrong with a tap

TEST_F(NetTest, AnInterfaceThatDoesNotExistIsRefusedAndNotMade) {
  EXPECT_THAT(refusal("absent"),
              HasSubstr("no such interface; make it first: ip tuntap add dev absent mode tap"));
  EXPECT_EQ(::if_nametoindex("absent"), 0U);
  EXPECT_NE(refusal("tap%d"), "") << "a pattern would make one as well";
}

TEST_F(NetTest, NamesThatCannotBeAreRefused) {
  EXPECT_THAT(refusal(""), HasSubstr("needs a name"));
  EXPECT_THAT(refusal("a-name-too-long1"), HasSubstr("at most 15 characters, this one 16"));
  EXPECT_THAT(refusal("a-name-that-fit"), HasSubstr("no such interface"));
}

TEST_F(NetTest, ATapThatAnotherProgramUsesIsBusy) {
  start();
  EXPECT_THAT(refusal(kTap), HasSubstr("busy"));
}

TEST_F(NetTest, AnInterfaceThatIsNoTapIsRefused) {
  EXPECT_THAT(refusal("lo"), HasSubstr("no tap interface"));
}

TEST_F(NetTest, ATapOfAnotherUserIsRefused) {
  // Root may attach to any tap; so another user tries, who may open the tun device.
  ASSERT_EQ(::seteuid(65534), 0);
  const auto message = refusal(kTap);
  ASSERT_EQ(::seteuid(0), 0);
  EXPECT_THAT(message,
              ::testing::AnyOf(HasSubstr("no permission; let its owner"), HasSubstr("Permission denied")));
}

TEST_F(NetTest, RunningOutOfFileDescriptorsIsAnError) {
  for (int left = 0; left < 2; ++left) {
    const test::FewDescriptors few(left);
    EXPECT_THAT(refusal(kTap), HasSubstr("Too many open files")) << left;
  }
}

TEST_F(NetTest, AMulticastAddressIsRefused) {
  const auto net =
      test::create_net({.tap = kTap, .mac = MacAddress{1, 0, 0x5e, 0, 0, 1}}, memory_, *loop_, kernel_);
  ASSERT_FALSE(net);
  EXPECT_THAT(net.error().message, HasSubstr("multicast"));
}

}  // namespace
}  // namespace balloon::vmm
