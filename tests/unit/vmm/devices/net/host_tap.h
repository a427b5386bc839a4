// SPDX-License-Identifier: Apache-2.0
// Real taps in a network namespace of the test's own, and the host's side of them.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/ethtool.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "tests/unit/vmm/virtio/fake_driver.h"

namespace balloon::vmm::test {

inline constexpr std::uint16_t kTestProtocol =
    0x88b5;  // IEEE 802 local experimental: nothing else in the namespace speaks it
inline constexpr const char* kTap = "tap-test";

/// A network namespace of this process' own, which takes it along when it ends.
class Namespace : public ::testing::Environment {
 public:
  void SetUp() override {
    ASSERT_EQ(::unshare(CLONE_NEWNET), 0) << "these tests need root: " << std::strerror(errno);
  }
};

inline ifreq named(const std::string& name) {
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
  bool has_carrier() const {
    ethtool_value link = {.cmd = ETHTOOL_GLINK, .data = 0};
    ifreq request = named(name_);
    request.ifr_data = reinterpret_cast<char*>(&link);
    check(::ioctl(socket_.get(), SIOCETHTOOL, &request), "its carrier");
    return link.data != 0;
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
      if (::poll(&events, 1, static_cast<int>(std::chrono::milliseconds(kPatience).count())) <= 0) return {};
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

inline std::vector<std::byte> frame(std::size_t size, int seed = 1) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i)
    bytes[i] = static_cast<std::byte>(i + static_cast<std::size_t>(seed));
  for (std::size_t i = 0; i < 6; ++i) bytes[i] = std::byte{0xff};
  bytes[6] = std::byte{2};
  bytes[12] = std::byte{kTestProtocol >> 8};
  bytes[13] = std::byte{kTestProtocol & 0xff};
  return bytes;
}

/// struct virtio_net_hdr; <linux/virtio_net.h> is C only.
struct OffloadHeader {
  std::uint8_t flags = 0;
  std::uint8_t gso_type = 0;
  std::uint16_t hdr_len = 0;
  std::uint16_t gso_size = 0;
  std::uint16_t csum_start = 0;
  std::uint16_t csum_offset = 0;
};
static_assert(sizeof(OffloadHeader) == 10);

/// Sends and sees IPv4 frames of an interface together with their offloads, as the host's own stack does.
class OffloadSocket {
 public:
  struct Frame {
    OffloadHeader header;
    std::vector<std::byte> bytes;
  };
  explicit OffloadSocket(const char* name = kTap)
      : socket_(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_IP))) {
    const int on = 1;
    address_.sll_family = AF_PACKET;
    address_.sll_protocol = htons(ETH_P_IP);
    address_.sll_ifindex = static_cast<int>(::if_nametoindex(name));
    if (::setsockopt(socket_.get(), SOL_PACKET, PACKET_VNET_HDR, &on, sizeof on) != 0 ||
        ::bind(socket_.get(), reinterpret_cast<sockaddr*>(&address_), sizeof address_) != 0)
      throw std::runtime_error(std::string("a packet socket with offloads: ") + std::strerror(errno));
  }
  /// Towards the guest.
  void send(const Frame& frame) {
    std::vector<std::byte> all(sizeof frame.header);
    std::memcpy(all.data(), &frame.header, sizeof frame.header);
    all.insert(all.end(), frame.bytes.begin(), frame.bytes.end());
    if (::send(socket_.get(), all.data(), all.size(), 0) < 0)
      throw std::runtime_error(std::string("sending with offloads: ") + std::strerror(errno));
  }
  /// From the guest.
  Frame receive() {
    std::vector<std::byte> all(70000);
    pollfd events{.fd = socket_.get(), .events = POLLIN, .revents = 0};
    for (;;) {
      if (::poll(&events, 1, static_cast<int>(std::chrono::milliseconds(kPatience).count())) <= 0) return {};
      sockaddr_ll from = {};
      socklen_t size = sizeof from;
      const ssize_t got =
          ::recvfrom(socket_.get(), all.data(), all.size(), 0, reinterpret_cast<sockaddr*>(&from), &size);
      if (got < 0 || from.sll_pkttype == PACKET_OUTGOING) continue;
      Frame frame{};
      std::memcpy(&frame.header, all.data(), sizeof frame.header);
      frame.bytes.assign(all.begin() + sizeof frame.header, all.begin() + got);
      return frame;
    }
  }

 private:
  UniqueFd socket_;
  sockaddr_ll address_ = {};
};

/// A TCP segment over IPv4 with `payload` bytes, its checksum left to whoever sends it on.
inline std::vector<std::byte> tcp_frame(std::size_t payload) {
  std::vector<std::byte> bytes(54 + payload);
  const auto set = [&](std::size_t at, std::initializer_list<unsigned> values) {
    for (const unsigned value : values) bytes[at++] = static_cast<std::byte>(value);
  };
  const std::size_t total = bytes.size() - 14;
  set(0, {2, 0, 0, 0, 0, 7, 2, 0, 0, 0, 0, 1, 8, 0});
  set(14, {0x45,
           0,
           static_cast<unsigned>(total >> 8),
           static_cast<unsigned>(total & 0xff),
           0,
           1,
           0x40,
           0,
           64,
           6,
           0,
           0,
           10,
           0,
           0,
           1,
           10,
           0,
           0,
           2});
  unsigned sum = 0;
  for (std::size_t i = 14; i < 34; i += 2)
    sum += static_cast<unsigned>(bytes[i]) << 8 | static_cast<unsigned>(bytes[i + 1]);
  sum = ~((sum & 0xffff) + (sum >> 16)) & 0xffff;
  set(24, {sum >> 8, sum & 0xff});
  set(34, {0x10, 0, 0x20, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0});
  for (std::size_t i = 54; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 7 + i / 256);
  return bytes;
}
inline OffloadHeader tso_header() {
  return {.flags = 1, .gso_type = 1, .hdr_len = 54, .gso_size = 1448, .csum_start = 34, .csum_offset = 16};
}

}  // namespace balloon::vmm::test
