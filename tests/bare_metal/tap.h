// SPDX-License-Identifier: Apache-2.0
// A tap for a guest under test.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cstring>
#include <string>

#include "base/unique_fd.h"

namespace balloon::vmm::test {

/// A tap in a network namespace of this process's own, and a socket that sees what the guest sends.
class Tap {
 public:
  Tap() {
    if (::unshare(CLONE_NEWNET) != 0) return;
    const UniqueFd tun(::open("/dev/net/tun", O_RDWR | O_CLOEXEC));
    ifreq request{};
    std::strncpy(request.ifr_name, "tapmetal", IFNAMSIZ - 1);
    request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    if (!tun || ::ioctl(tun.get(), TUNSETIFF, &request) != 0 || ::ioctl(tun.get(), TUNSETPERSIST, 1) != 0)
      return;
    packets_ = UniqueFd(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL)));
    request.ifr_flags = IFF_UP;
    if (::ioctl(packets_.get(), SIOCSIFFLAGS, &request) != 0) packets_.reset();
  }
  bool made() const { return static_cast<bool>(packets_); }
  /// The next frame of the experimental EtherType that the guest uses.
  std::string frame() const {
    for (;;) {
      pollfd ready{.fd = packets_.get(), .events = POLLIN, .revents = 0};
      if (::poll(&ready, 1, 5'000) != 1) return "";
      std::string bytes(2048, '\0');
      const ssize_t size = ::recv(packets_.get(), bytes.data(), bytes.size(), 0);
      if (size < 14 || bytes.substr(12, 2) != "\x88\xb5") continue;
      bytes.resize(static_cast<std::size_t>(size));
      return bytes;
    }
  }

 private:
  UniqueFd packets_;
};

}  // namespace balloon::vmm::test
