#include "vmm/devices/net/net.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <ctime>
#include <fstream>

#include "tests/unit/vmm/virtio/fake_driver.h"

namespace balloon::vmm {
namespace {

using test::ChainBuilder;
using test::eventually;
using test::FakeDriver;
using test::make_memory;
using ::testing::HasSubstr;

constexpr std::uint16_t kReceive = 0;
constexpr std::uint16_t kSend = 1;
constexpr std::uint16_t kTestProtocol =
    0x88b5;  // IEEE 802 local experimental: nothing else in the namespace speaks it
constexpr const char* kTap = "tap-test";

/// One persistent tap in a network namespace of this process' own, which takes it along when it ends.
class Namespace : public ::testing::Environment {
 public:
  void SetUp() override {
    ASSERT_EQ(::unshare(CLONE_NEWNET), 0) << "these tests need root: " << std::strerror(errno);
  }
};
[[maybe_unused]] const auto* const kNamespace = ::testing::AddGlobalTestEnvironment(new Namespace);

ifreq named(const std::string& name) {
  ifreq request = {};
  std::memcpy(request.ifr_name, name.data(), name.size());
  return request;
}

/// A tap interface that is up, as an administrator made it, and the host's side of it.
class HostTap {
 public:
  explicit HostTap(const std::string& name = kTap, int flags = IFF_TAP | IFF_NO_PI) {
    ifreq request = named(name);
    request.ifr_flags = static_cast<short>(flags);
    UniqueFd owner(::open("/dev/net/tun", O_RDWR | O_CLOEXEC));
    check(owner ? ::ioctl(owner.get(), TUNSETIFF, &request) : -1, "making a tap");
    check(::ioctl(owner.get(), TUNSETPERSIST, 1), "making it persistent");
    name_ = name;
    flags_ = flags;
    socket_ = UniqueFd(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(kTestProtocol)));
    check(socket_.get(), "opening a packet socket");
    disable_ipv6();
    set_up(true);
    request = named(name);
    check(::ioctl(socket_.get(), SIOCGIFINDEX, &request), "its index");
    sockaddr_ll address = {};
    address.sll_family = AF_PACKET;
    address.sll_protocol = htons(kTestProtocol);
    address.sll_ifindex = request.ifr_ifindex;
    check(::bind(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), "binding to it");
  }
  ~HostTap() { remove(); }

  void remove() {
    if (name_.empty()) return;
    // Only an attached descriptor can end the persistence; so the device under test must be gone by now.
    UniqueFd owner(::open("/dev/net/tun", O_RDWR | O_CLOEXEC));
    ifreq request = named(name_);
    request.ifr_flags = static_cast<short>(flags_);
    if (::ioctl(owner.get(), TUNSETIFF, &request) == 0) ::ioctl(owner.get(), TUNSETPERSIST, 0);
    name_.clear();
  }
  /// As "ip link del" does: under whoever has it open.
  void remove_link() {
    struct {
      nlmsghdr header;
      ifinfomsg link;
    } request = {};
    request.header.nlmsg_len = sizeof request;
    request.header.nlmsg_type = RTM_DELLINK;
    request.header.nlmsg_flags = NLM_F_REQUEST;
    request.link.ifi_index = static_cast<int>(::if_nametoindex(name_.c_str()));
    const UniqueFd netlink(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
    check(static_cast<int>(::send(netlink.get(), &request, sizeof request, 0)), "deleting it");
    name_.clear();
  }
  void set_up(bool up) {
    ifreq request = named(name_);
    request.ifr_flags = static_cast<short>(up ? IFF_UP : 0);
    check(::ioctl(socket_.get(), SIOCSIFFLAGS, &request), "bringing it up");
  }
  void set_mtu(int mtu) {
    ifreq request = named(name_);
    request.ifr_mtu = mtu;
    check(::ioctl(socket_.get(), SIOCSIFMTU, &request), "its MTU");
  }

  /// Towards the guest.
  void send(const std::vector<std::byte>& frame) {
    check(static_cast<int>(::send(socket_.get(), frame.data(), frame.size(), 0)), "sending");
  }
  /// From the guest; empty when nothing came in time.
  std::vector<std::byte> receive() {
    pollfd events{.fd = socket_.get(), .events = POLLIN, .revents = 0};
    std::vector<std::byte> frame(70000);
    for (;;) {
      if (::poll(&events, 1, static_cast<int>(std::chrono::milliseconds(test::kPatience).count())) <= 0)
        return {};
      sockaddr_ll from = {};
      socklen_t size = sizeof from;
      const ssize_t got =
          ::recvfrom(socket_.get(), frame.data(), frame.size(), 0, reinterpret_cast<sockaddr*>(&from), &size);
      if (got < 0) continue;
      if (from.sll_pkttype == PACKET_OUTGOING) continue;  // our own
      frame.resize(static_cast<std::size_t>(got));
      return frame;
    }
  }

 private:
  static void check(int result, const char* what) {
    if (result < 0) throw std::runtime_error(std::string(what) + ": " + std::strerror(errno));
  }
  /// Its own packets (neighbour discovery) would mix with the test's.
  void disable_ipv6() { std::ofstream("/proc/sys/net/ipv6/conf/" + name_ + "/disable_ipv6") << "1"; }

  std::string name_;
  int flags_ = 0;
  UniqueFd socket_;
};

std::vector<std::byte> frame(std::size_t size, int seed = 1) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i)
    bytes[i] = static_cast<std::byte>(i + static_cast<std::size_t>(seed));
  for (std::size_t i = 0; i < 6; ++i) bytes[i] = std::byte{0xff};
  bytes[6] = std::byte{2};
  bytes[12] = std::byte{kTestProtocol >> 8};
  bytes[13] = std::byte{kTestProtocol & 0xff};
  return bytes;
}

class NetTest : public ::testing::Test {
 protected:
  ~NetTest() override {
    driver_.reset();
    net_.reset();
  }
  void start() {
    auto net = Net::create({.tap = kTap, .mac = MacAddress{2, 0, 0, 0, 0, 7}}, *loop_);
    if (!net) throw std::runtime_error(net.error().message);
    net_ = std::move(*net);
    driver_.emplace(*net_, memory_);
    driver_->start();
  }
  /// Gives the device a receive buffer; its address.
  GuestAddress post_buffer(std::uint32_t size = 1530) {
    ChainBuilder builder(queue(kReceive));
    builder.writable(size).submit();
    driver_->kick(kReceive);
    return builder.address(0);
  }
  std::optional<test::UsedElement> wait_received() {
    std::optional<test::UsedElement> used;
    eventually([&] { return (used = queue(kReceive).pop_used()).has_value(); });
    return used;
  }
  std::vector<std::byte> bytes_at(GuestAddress address, std::size_t size) {
    std::vector<std::byte> bytes(size);
    memory_.read(address, bytes);
    return bytes;
  }
  void send(const std::vector<std::byte>& header, const std::vector<std::byte>& data) {
    ChainBuilder builder(queue(kSend));
    if (!header.empty()) builder.readable(header);
    if (!data.empty()) builder.readable(data);
    builder.submit();
    const auto used = driver_->kick_and_wait(kSend);
    ASSERT_TRUE(used);
    EXPECT_EQ(used->length, 0U);
  }
  test::FakeQueue& queue(std::uint16_t index) { return driver_->queue(index); }
  std::string refusal(const std::string& tap) {
    const auto net = make_net({.tap = tap}, memory_, *loop_);
    return net ? "" : net.error().message;
  }
  /// CPU time of the loop's thread and all others of this process.
  static double cpu_seconds() {
    timespec now;
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
  }

  const std::vector<std::byte> no_offload_ = std::vector<std::byte>(12);
  GuestMemory memory_ = make_memory(16 * kMiB);
  std::unique_ptr<EventLoop> loop_ = *EventLoop::create("test");
  HostTap tap_;
  std::unique_ptr<Net> net_;
  std::optional<FakeDriver> driver_;
};

// Identity

TEST_F(NetTest, TellsItsAddressAndThatTheLinkIsUp) {
  start();
  EXPECT_EQ(net_->id(), DeviceId::net);
  EXPECT_EQ(net_->name(), "net tap-test");
  EXPECT_EQ(driver_->read_config<MacAddress>(0), (MacAddress{2, 0, 0, 0, 0, 7}));
  EXPECT_EQ(driver_->read_config<std::uint16_t>(6), 1U);
  EXPECT_EQ(net_->offered_features(), kFeatureIndirectDesc | kFeatureEventIdx | 1U << 5 | 1U << 16);
  driver_->write_config<std::uint64_t>(0, ~0ULL);
  EXPECT_EQ(driver_->read_config<MacAddress>(0), (MacAddress{2, 0, 0, 0, 0, 7}));
}

TEST_F(NetTest, WithoutAnAddressItMakesALocalUnicastOne) {
  auto net = Net::create({.tap = kTap}, *loop_);
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

// Sending

TEST_F(NetTest, AFrameOfTheGuestReachesTheTapWithoutItsHeader) {
  start();
  send(no_offload_, frame(300));
  EXPECT_EQ(tap_.receive(), frame(300));
  EXPECT_EQ(net_->counters().sent, 1U);
  EXPECT_EQ(driver_->host().queue_interrupts(kSend), 1);
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
  ChainBuilder(queue(kSend)).readable_at(8 * kMiB, kMiB).submit();  // 1 MiB of frame
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
    driver_->start();
    ChainBuilder builder(queue(index));
    index == kReceive ? builder.writable_at(memory_.size(), 2000) : builder.readable_at(memory_.size(), 2000);
    builder.submit();
    driver_->kick(index);
    if (index == kReceive)
      tap_.send(frame(60));  // the receive queue is looked at when there is something for it
    EXPECT_TRUE(eventually([&] { return !driver_->host().reset_reason().empty(); }));
    EXPECT_THAT(driver_->host().reset_reason(), HasSubstr("not in guest RAM"));
    driver_->reset();
    driver_->start();
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
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(queue(kReceive).used_index(), 1);
  EXPECT_EQ(bytes_at(buffer + 12, 60), frame(60));
  EXPECT_EQ(bytes_at(held, 1530), std::vector<std::byte>(1530));
  // The next driver gets the frame that waited.
  driver_->start();
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
    driver_->start();
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
  EXPECT_THAT(refusal("lo"), HasSubstr("no single-queue tap"));
  HostTap many("tap-many", IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE);
  EXPECT_THAT(refusal("tap-many"), HasSubstr("no single-queue tap"));
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
  const auto net = make_net({.tap = kTap, .mac = MacAddress{1, 0, 0x5e, 0, 0, 1}}, memory_, *loop_);
  ASSERT_FALSE(net);
  EXPECT_THAT(net.error().message, HasSubstr("multicast"));
}

}  // namespace
}  // namespace balloon::vmm
