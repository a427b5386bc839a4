// SPDX-License-Identifier: Apache-2.0
// The network device behind the legacy interface, with a driver as old ones are, and real frames of a real
// tap.
#include <cstring>

#include "tests/unit/vmm/devices/net/net_fixture.h"
#include "tests/unit/vmm/pci/device_guest.h"

namespace balloon::vmm::test {
namespace {

using namespace net_feature;  // NOLINT: what the drivers negotiate

constexpr std::size_t kShort = 10;  // struct virtio_net_hdr of a legacy driver without MRG_RXBUF (5.1.6.1)
constexpr std::size_t kLong = 12;

class LegacyNetTest : public ::testing::Test {
 protected:
  void start(std::uint64_t features, bool messages = true) {
    auto net = create_net({.tap = kTap, .mac = kAddress}, memory_, *loop_, kernel_);
    if (!net) throw std::runtime_error(net.error().message);
    guest_.emplace(std::move(*net), memory_, *loop_, TransportConfig{.interface = VirtioInterface::legacy});
    guest_->negotiate(features);
    EXPECT_EQ(guest_->read_config(0, 6), mac()) << "in probe, before the vectors are set up";
    if (messages) guest_->use_messages();
    guest_->start();
  }
  static std::vector<std::byte> mac() {
    const auto bytes = std::as_bytes(std::span(kAddress));
    return {bytes.begin(), bytes.end()};
  }
  std::vector<std::byte> bytes_at(GuestAddress address, std::size_t size) {
    std::vector<std::byte> bytes(size);
    memory_.read(address, bytes);
    return bytes;
  }
  /// One frame each way, with a header of `header` bytes in front.
  void expect_traffic(std::size_t header) {
    ChainBuilder receive(guest_->queue(kReceive));
    receive.writable(static_cast<std::uint32_t>(header)).writable(1514).submit();
    guest_->kick(kReceive);
    tap_.send(frame(100));
    const auto received = guest_->wait_used(kReceive);
    ASSERT_TRUE(received);
    EXPECT_EQ(received->length, header + 100);
    EXPECT_EQ(bytes_at(receive.address(1), 100), frame(100));
    std::vector<std::byte> expected_header(header);
    if (header == kLong) expected_header[10] = std::byte{1};  // num_buffers
    EXPECT_EQ(bytes_at(receive.address(0), header), expected_header);

    ChainBuilder send(guest_->queue(kSend));
    send.readable(std::vector<std::byte>(header)).readable(frame(200, 3)).submit();
    guest_->kick(kSend);
    ASSERT_TRUE(guest_->wait_used(kSend));
    EXPECT_EQ(tap_.receive(), frame(200, 3));
  }

  static constexpr MacAddress kAddress = {2, 0, 0, 0, 0, 7};
  GuestMemory memory_ = make_memory(16 * kMiB);
  std::unique_ptr<EventLoop> loop_ = *EventLoop::create("test");
  VhostKernel kernel_;
  HostTap tap_;
  std::optional<DeviceGuest> guest_;
};

TEST_F(LegacyNetTest, WithMergedBuffersTheHeaderHasTwelveBytes) {
  start(~0ULL & ~kFeatureEventIdx);
  expect_traffic(kLong);
  EXPECT_TRUE(eventually([&] { return guest_->interrupts(kReceive) == 1; }));
  EXPECT_TRUE(eventually([&] { return guest_->interrupts(kSend) == 1; }));
}

TEST_F(LegacyNetTest, WithoutThemItHasTen) {
  start(kMac | kStatus | kCtrlVq);
  expect_traffic(kShort);
  expect_traffic(kShort);
}

TEST_F(LegacyNetTest, WithoutMsixItsPinInterruptsAndTheConfigurationLiesLower) {
  start(kStatus, /*messages=*/false);
  EXPECT_EQ(guest_->read_config(6, 2), (std::vector{std::byte{1}, std::byte{0}})) << "link up";
  expect_traffic(kShort);
  EXPECT_TRUE(eventually([&] { return guest_->host().pin(); }));
}

TEST_F(LegacyNetTest, WithMsixTheLinkStatusLiesHigher) {
  start(~0ULL);
  EXPECT_EQ(guest_->read_config(0, 6), mac());
  EXPECT_EQ(guest_->read_config(6, 2), (std::vector{std::byte{1}, std::byte{0}})) << "link up";
}

TEST_F(LegacyNetTest, BuffersThatWereThereBeforeDriverOkAreUsed) {
  auto net = create_net({.tap = kTap}, memory_, *loop_, kernel_);
  ASSERT_TRUE(net);
  guest_.emplace(std::move(*net), memory_, *loop_, TransportConfig{.interface = VirtioInterface::legacy});
  guest_->negotiate(0);
  guest_->start();
  guest_->negotiate(0);  // a second life, as after a boot loader
  guest_->start();
  expect_traffic(kShort);
}

TEST_F(LegacyNetTest, TheControlQueueIsTheThirdAndAnswers) {
  start(kCtrlVq | kCtrlRx);
  ChainBuilder command(guest_->queue(2));
  command.readable(std::vector{std::byte{0}, std::byte{0}, std::byte{1}})
      .writable(1)
      .submit();  // promiscuous
  memory_.write<std::uint8_t>(command.address(1), 0xff);
  guest_->kick(2);
  ASSERT_TRUE(guest_->wait_used(2));
  EXPECT_EQ(memory_.read<std::uint8_t>(command.address(1)), 0) << "VIRTIO_NET_OK";
  expect_traffic(kShort);
}

TEST_F(LegacyNetTest, OffloadedSegmentsGoBothWays) {
  start(kCsum | kGuestCsum | kHostTso4 | kGuestTso4 | kMrgRxbuf);
  OffloadSocket host;
  const auto segment = tcp_frame(4000);
  const OffloadHeader header = tso_header();
  std::vector<std::byte> with_header(kLong);
  std::memcpy(with_header.data(), &header, sizeof header);
  ChainBuilder(guest_->queue(kSend)).readable(with_header).readable(segment).submit();
  guest_->kick(kSend);
  ASSERT_TRUE(guest_->wait_used(kSend));
  const auto sent = host.receive();
  EXPECT_EQ(sent.header.gso_size, 1448);
  EXPECT_EQ(sent.bytes.size(), segment.size());

  ChainBuilder receive(guest_->queue(kReceive));
  receive.writable(8192).submit();
  guest_->kick(kReceive);
  host.send({header, segment});
  const auto received = guest_->wait_used(kReceive);
  ASSERT_TRUE(received);
  EXPECT_EQ(received->length, kLong + segment.size());
  EXPECT_EQ(memory_.read<OffloadHeader>(receive.address(0))->gso_size, 1448);
}

}  // namespace
}  // namespace balloon::vmm::test
