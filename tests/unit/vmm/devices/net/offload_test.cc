// SPDX-License-Identifier: Apache-2.0
// Frames larger than a packet, merged buffers, the rate limit, the link, passed descriptors.
#include <gmock/gmock.h>

#include <chrono>
#include <cstring>
#include <map>
#include <thread>

#include "tests/unit/vmm/devices/net/net_fixture.h"
#include "vmm/devices/net/offloads.h"

namespace balloon::vmm::test {
namespace {

using namespace net_feature;  // NOLINT: what the tests negotiate
using std::chrono::milliseconds;
using std::chrono::steady_clock;
using ::testing::HasSubstr;

class OffloadTest : public NetTest {
 protected:
  struct Received {
    NetHeader header;
    std::vector<std::byte> frame;
  };
  /// Posts `count` buffers of `size` bytes, and remembers where they are.
  void post(int count, std::uint32_t size) {
    for (int i = 0; i < count; ++i) {
      ChainBuilder builder(queue(kReceive));
      builder.writable(size);
      buffers_[builder.submit()] = builder.address(0);
    }
    driver_->kick(kReceive);
  }
  /// The next frame, as a driver that merges puts it together.
  std::optional<Received> receive_merged() {
    Received received;
    int left = 1;
    for (bool first = true; left > 0; --left, first = false) {
      auto used = queue(kReceive).pop_used();
      if (!used && !first) {
        ADD_FAILURE() << "the driver saw a part of a frame without the rest";
        return {};
      }
      if (!used) used = wait_received();
      if (!used) return {};
      auto bytes = bytes_at(buffers_.at(static_cast<std::uint16_t>(used->id)), used->length);
      if (first) {
        std::memcpy(&received.header, bytes.data(), sizeof received.header);
        left = received.header.num_buffers;
        bytes.erase(bytes.begin(), bytes.begin() + sizeof received.header);
      }
      received.frame.insert(received.frame.end(), bytes.begin(), bytes.end());
    }
    return received;
  }

  std::map<std::uint16_t, GuestAddress> buffers_;
};

TEST_F(OffloadTest, WhatTheTapCanDoIsOffered) {
  start(~0ULL);
  const std::uint64_t offered = net_->offered_features();
  constexpr std::uint64_t kExpected = kCsum | kGuestCsum | kHostTso4 | kHostTso6 | kGuestTso4 | kGuestTso6 |
                                      kMrgRxbuf | kCtrlVq | kCtrlRx | kCtrlMacAddr | kGuestAnnounce |
                                      kCtrlGuestOffloads;
  EXPECT_EQ(offered & kExpected, kExpected);
  EXPECT_EQ(offered & (kMq | kMtu), 0U) << "not configured";
}

TEST_F(OffloadTest, WithOffloadOffNoneIsOffered) {
  auto with = config();
  with.offload = false;
  start(~0ULL, with);
  EXPECT_EQ(net_->offered_features() &
                (kCsum | kGuestCsum | kHostSegmentation | kGuestSegmentation | kCtrlGuestOffloads),
            0U);
}

TEST_F(OffloadTest, ALargeFrameOfTheGuestReachesTheHostWhole) {
  start(~0ULL);
  OffloadSocket host;
  const auto frame = tcp_frame(20000);
  const auto header = tso_header();
  std::vector<std::byte> bytes(12);
  std::memcpy(bytes.data(), &header, sizeof header);
  send(bytes, frame);
  const auto seen = host.receive();
  EXPECT_EQ(seen.bytes, frame) << "one frame, not segmented";
  EXPECT_EQ(seen.header.gso_type, NetHeader::kGsoTcp4);
  EXPECT_EQ(seen.header.gso_size, 1448);
  EXPECT_EQ(net_->counters().sent_bytes, frame.size());
}

TEST_F(OffloadTest, ALargeFrameThatWasNotNegotiatedIsDropped) {
  start(~kHostTso4);
  const auto header = tso_header();
  std::vector<std::byte> bytes(12);
  std::memcpy(bytes.data(), &header, sizeof header);
  send(bytes, tcp_frame(20000));
  EXPECT_EQ(net_->counters().send_malformed, 1U);
  EXPECT_EQ(net_->counters().sent, 0U);
}

TEST_F(OffloadTest, ALargeFrameOfTheHostIsMergedFromSeveralBuffers) {
  start(~0ULL);
  post(60, 1536);
  OffloadSocket host;
  const auto frame = tcp_frame(40000);
  host.send({tso_header(), frame});
  const auto got = receive_merged();
  ASSERT_TRUE(got);
  EXPECT_EQ(got->frame, frame);
  EXPECT_EQ(got->header.gso_type, NetHeader::kGsoTcp4);
  EXPECT_EQ(got->header.gso_size, 1448);
  EXPECT_EQ(got->header.flags, NetHeader::kNeedsCsum);
  EXPECT_EQ(got->header.num_buffers, (40054 + 12 + 1535) / 1536);
  // Those that were left serve the next.
  tap_.send(test::frame(100));
  const auto next = receive_merged();
  ASSERT_TRUE(next);
  EXPECT_EQ(next->frame, test::frame(100));
  EXPECT_EQ(next->header.num_buffers, 1);
}

TEST_F(OffloadTest, ALargeFrameWaitsForBuffersInsteadOfBeingCut) {
  start(~0ULL);
  post(3, 1536);
  OffloadSocket host;
  const auto frame = tcp_frame(30000);
  host.send({tso_header(), frame});
  ASSERT_TRUE(eventually([&] { return net_->counters().starved > 0; }));
  EXPECT_EQ(queue(kReceive).used_index(), 0) << "nothing half";
  for (int i = 0; i < 20; ++i) post(1, 1536);
  const auto got = receive_merged();
  ASSERT_TRUE(got);
  EXPECT_EQ(got->frame, frame);
  EXPECT_EQ(net_->counters().received_too_large, 0U);
}

TEST_F(OffloadTest, AFrameThatTheWholeQueueCannotHoldIsDropped) {
  start(~0ULL);
  post(NetConfig::kDefaultQueueSize, 64);  // 16 KiB in all
  OffloadSocket host;
  host.send({tso_header(), tcp_frame(30000)});
  ASSERT_TRUE(eventually([&] { return net_->counters().received_too_large == 1; }));
  tap_.send(test::frame(150));
  const auto got = receive_merged();
  ASSERT_TRUE(got) << "the buffers are for the next frame";
  EXPECT_EQ(got->frame, test::frame(150));
}

TEST_F(OffloadTest, AGuestWithoutSegmentationGetsSegments) {
  start(~(kGuestTso4 | kGuestTso6 | kGuestEcn));
  post(60, 1536);
  OffloadSocket host;
  host.send({tso_header(), tcp_frame(1448 * 3)});
  for (int i = 0; i < 3; ++i) {
    const auto got = receive_merged();
    ASSERT_TRUE(got);
    EXPECT_EQ(got->frame.size(), 1448U + 54);
    EXPECT_EQ(got->header.gso_type, 0);
  }
}

TEST_F(OffloadTest, AGuestWithoutChecksumOffloadGetsAnEmptyHeaderAndAGoodChecksum) {
  start(kPlain | kMrgRxbuf);
  post(4, 1536);
  OffloadSocket host;
  auto header = tso_header();
  header.gso_type = 0;
  host.send({header, tcp_frame(100)});
  const auto got = receive_merged();
  ASSERT_TRUE(got);
  EXPECT_EQ(got->header.flags, 0);
  // The sum over the segment, the sums of the pseudo header left out by the sender's, is what TCP wants.
  EXPECT_NE(std::vector(got->frame.begin() + 50, got->frame.begin() + 52), std::vector<std::byte>(2));
}

TEST_F(OffloadTest, BuffersThatDoNotHoldAHeaderAreReturnedEmpty) {
  start(~0ULL);
  post(2, 11);
  post(1, 1536);
  tap_.send(test::frame(60));
  for (int i = 0; i < 2; ++i) EXPECT_EQ(wait_received().value().length, 0U);
  EXPECT_EQ(receive_merged().value().frame, test::frame(60));
  EXPECT_EQ(net_->counters().receive_malformed, 2U);
}

TEST_F(OffloadTest, ALegacyDriverHasItsShorterHeader) {
  auto net = create_net(config(), memory_, *loop_, kernel_);
  ASSERT_TRUE(net);
  net_ = std::move(*net);
  driver_.emplace(*net_, memory_);
  driver_->start(kPlain, 0);
  const GuestAddress buffer = post_buffer();
  tap_.send(test::frame(100));
  EXPECT_EQ(wait_received().value().length, 110U);
  EXPECT_EQ(bytes_at(buffer + 10, 100), test::frame(100));
  send(std::vector<std::byte>(10), test::frame(80));
  EXPECT_EQ(tap_.receive(), test::frame(80));
}

TEST_F(OffloadTest, ATapWithoutAHeaderMovesPlainFrames) {
  auto with = config();
  with.vnet_header = false;
  start(~0ULL, with);
  EXPECT_EQ(net_->offered_features() & (kCsum | kGuestCsum), 0U);
  post(3, 100);  // merged all the same
  tap_.send(test::frame(200));
  EXPECT_EQ(receive_merged().value().frame, test::frame(200));
  send(no_offload_, test::frame(300));
  EXPECT_EQ(tap_.receive(), test::frame(300));
}

// Link

TEST_F(OffloadTest, ThePulledCableIsSeenOnBothSides) {
  start(~0ULL);
  net_->set_link(false);
  EXPECT_EQ(driver_->read_config<std::uint16_t>(6), 0U);
  EXPECT_EQ(driver_->host().config_interrupts(), 1);
  EXPECT_FALSE(net_->announce());
  send(no_offload_, test::frame(60));
  EXPECT_EQ(net_->counters().send_dropped, 1U);
  net_->set_link(true);
  EXPECT_EQ(driver_->read_config<std::uint16_t>(6), 1U);
  EXPECT_EQ(driver_->host().config_interrupts(), 2);
  post(4, 1536);
  tap_.send(test::frame(70));
  EXPECT_EQ(receive_merged().value().frame, test::frame(70));
  send(no_offload_, test::frame(61));
  EXPECT_EQ(tap_.receive(), test::frame(61));
}

TEST_F(OffloadTest, TheLinkMayStartDownAndStaysSoOverAReset) {
  auto with = config();
  with.link = false;
  start(~0ULL, with);
  EXPECT_EQ(driver_->read_config<std::uint16_t>(6), 0U);
  driver_->reset();
  driver_->start(kPlain);
  EXPECT_EQ(driver_->read_config<std::uint16_t>(6), 0U);
}

TEST_F(OffloadTest, TheMtuIsTold) {
  auto with = config();
  with.mtu = 9000;
  start(~0ULL, with);
  EXPECT_NE(net_->offered_features() & kMtu, 0U);
  EXPECT_EQ(driver_->read_config<std::uint16_t>(10), 9000U);
}

// Rate limit

TEST_F(OffloadTest, SendingIsHeldToTheRate) {
  auto with = config();
  with.rate = {.frames = 100, .frames_burst = 1};
  start(kPlain, with);
  const auto before = steady_clock::now();
  for (int i = 0; i < 31; ++i) {
    auto all = no_offload_;
    const auto data = test::frame(60, i);
    all.insert(all.end(), data.begin(), data.end());
    ChainBuilder(queue(kSend)).readable(all).submit();
  }
  driver_->kick(kSend);
  for (int i = 0; i < 31; ++i) ASSERT_EQ(tap_.receive(), test::frame(60, i)) << "none is lost";
  EXPECT_GE(steady_clock::now() - before, milliseconds(280));
  EXPECT_GT(net_->counters().limited, 0U);
}

TEST_F(OffloadTest, ReceivingIsHeldToTheRate) {
  auto with = config();
  with.rate = {.bytes = Bytes{100'000}, .bytes_burst = Bytes{1000}};
  start(kPlain, with);
  const auto before = steady_clock::now();
  for (int i = 0; i < 31; ++i) tap_.send(test::frame(1000, i));
  for (int i = 0; i < 31; ++i) {
    const GuestAddress buffer = post_buffer();
    ASSERT_TRUE(wait_received()) << i;
    ASSERT_EQ(bytes_at(buffer + 12, 1000), test::frame(1000, i)) << i;
  }
  EXPECT_GE(steady_clock::now() - before, milliseconds(250));
}

TEST_F(OffloadTest, FramesAreCountedWithTheirBytesButNotTheirHeaders) {
  start();
  post_buffer();
  tap_.send(test::frame(70));
  ASSERT_TRUE(wait_received());
  send(no_offload_, test::frame(60));
  const NetCounters counters = net_->counters();
  EXPECT_EQ(counters.received, 1U);
  EXPECT_EQ(counters.received_bytes, 70U);
  EXPECT_EQ(counters.sent, 1U);
  EXPECT_EQ(counters.sent_bytes, 60U);
}

TEST_F(OffloadTest, ACableThatWasPulledIsSeenPulledThoughTheLoopHasNotComeToIt) {
  start();
  const auto pull_while_busy = [this](bool up) {
    loop_->pause();
    net_->mutex().lock();
    std::thread([&] { net_->set_link(up); }).join();
    net_->mutex().unlock();
  };
  pull_while_busy(false);
  EXPECT_EQ(driver_->read_config<std::uint16_t>(6) & 1, 0) << "by the driver";
  loop_->resume();
  pull_while_busy(true);
  EXPECT_TRUE(net_->state().link) << "by whoever asks";
  loop_->resume();
}

// Passed descriptors

TEST_F(OffloadTest, APassedTapWorksAndMayBeUsedAgain) {
  UniqueFd passed(::open("/dev/net/tun", O_RDWR | O_CLOEXEC));
  ifreq request = named(kTap);
  request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
  ASSERT_EQ(::ioctl(passed.get(), TUNSETIFF, &request), 0);
  for (int life = 0; life < 2; ++life) {
    driver_.reset();
    net_.reset();
    NetConfig with;
    with.fds = {static_cast<std::uint32_t>(passed.get())};
    start(~0ULL, with);
    EXPECT_NE(net_->offered_features() & kHostTso4, 0U);
    post(2, 1536);
    tap_.send(test::frame(70));
    EXPECT_EQ(receive_merged().value().frame, test::frame(70));
  }
}

TEST_F(OffloadTest, APassedDescriptorThatIsNoTapIsRefused) {
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  NetConfig with;
  with.fds = {static_cast<std::uint32_t>(null.get())};
  auto net = create_net(with, memory_, *loop_, kernel_);
  ASSERT_FALSE(net);
  EXPECT_THAT(net.error().message, HasSubstr("it is no tap"));
  with.fds = {9999};
  net = create_net(with, memory_, *loop_, kernel_);
  ASSERT_FALSE(net);
  EXPECT_THAT(net.error().message, HasSubstr("file descriptor 9999: taking it over"));
}

}  // namespace
}  // namespace balloon::vmm::test
