// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/net/tap.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "vmm/devices/net/offloads.h"

namespace balloon::vmm {
namespace {

constexpr const char* kTunDevice = "/dev/net/tun";

Result<void> check_name(const std::string& name) {
  if (name.empty()) return fail("a tap needs a name");
  if (name.size() >= IFNAMSIZ) {
    return fail(fmt::format("tap {}: a name has at most {} characters, this one {}", name, IFNAMSIZ - 1,
                            name.size()));
  }
  return {};
}

ifreq request_for(const std::string& name) {
  ifreq request = {};
  std::memcpy(request.ifr_name, name.data(), name.size());  // shorter than IFNAMSIZ, so it ends with a zero
  return request;
}

/// TUNSETIFF would silently make an interface that does not exist: one that leads nowhere.
Result<void> check_exists(const std::string& name) {
  const UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) return fail_errno(fmt::format("tap {}: opening a socket", name), errno);
  ifreq request = request_for(name);
  if (::ioctl(socket.get(), SIOCGIFINDEX, &request) == 0) return {};
  if (errno != ENODEV) return fail_errno(fmt::format("tap {}: looking it up", name), errno);
  return fail(fmt::format(
      "tap {}: no such interface; make it first: ip tuntap add dev {} mode tap user $USER", name, name));
}

std::unexpected<Error> attach_failed(const std::string& name, int error_number) {
  switch (error_number) {
    case EBUSY:
      return fail(
          fmt::format("tap {}: busy: another program has it open; give each guest its own tap", name));
    case EPERM:
      return fail(
          fmt::format("tap {}: no permission; let its owner run this, or make it yours: ip tuntap add dev {} "
                      "mode tap user $USER",
                      name, name));
    case E2BIG:
      return fail(
          fmt::format("tap {}: it has no more queues left for us; another program has it open, too", name));
    default:
      return fail_errno(fmt::format("tap {}: attaching to it", name), error_number);
  }
}

/// What a failed transfer means for the next one.
Tap::Transfer failed_transfer(int error_number) {
  if (error_number == EAGAIN) return {Tap::Outcome::would_block, 0};
  // EBADFD: the interface was deleted (drivers/net/tun.c, tun_get).
  return {error_number == EBADFD ? Tap::Outcome::gone : Tap::Outcome::failed, 0};
}

}  // namespace

Result<std::vector<Tap>> Tap::open(const std::string& name, unsigned queues, bool vnet_header) {
  BALLOON_TRY(check_name(name));
  BALLOON_TRY(check_exists(name));
  std::vector<Tap> taps;
  for (unsigned i = 0; i < queues; ++i) {
    auto tap = attach(name, queues > 1, vnet_header);
    if (!tap) return std::unexpected(std::move(tap.error()));
    taps.push_back(std::move(*tap));
  }
  return taps;
}

Result<Tap> Tap::attach(const std::string& name, bool several, bool vnet_header) {
  UniqueFd fd(::open(kTunDevice, O_RDWR | O_CLOEXEC | O_NONBLOCK));
  if (!fd) {
    return fail_errno(
        fmt::format("tap {}: opening {} (is the tun module loaded, and may you read and write it?)", name,
                    kTunDevice),
        errno);
  }
  const auto try_to = [&](int queues) {
    ifreq request = request_for(name);
    request.ifr_flags = static_cast<short>(IFF_TAP | IFF_NO_PI | queues | (vnet_header ? IFF_VNET_HDR : 0));
    return ::ioctl(fd.get(), TUNSETIFF, &request) == 0;
  };
  if (!try_to(several ? IFF_MULTI_QUEUE : 0)) {
    if (errno != EINVAL) return attach_failed(name, errno);
    if (several) {
      return fail(
          fmt::format("tap {}: it is no tap with several queues; make one: ip tuntap add dev {} mode tap "
                      "multi_queue user $USER",
                      name, name));
    }
    // EINVAL: it may have been made for several queues; one of them will do.
    if (!try_to(IFF_MULTI_QUEUE)) {
      if (errno != EINVAL) return attach_failed(name, errno);
      return fail(fmt::format("tap {}: it is no tap interface (ip tuntap show lists those)", name));
    }
  }
  return Tap(std::move(fd), name, vnet_header);
}

Result<std::vector<Tap>> Tap::adopt(std::span<const int> descriptors) {
  std::vector<Tap> taps;
  for (const int descriptor : descriptors) {
    auto tap = adopt(descriptor);
    if (!tap) return std::unexpected(std::move(tap.error()));
    if (!taps.empty() && (tap->name_ != taps[0].name_ || tap->vnet_header_ != taps[0].vnet_header_)) {
      return fail(
          fmt::format("file descriptor {}: it belongs to {}, the one before to {}; all must be queues of one "
                      "tap, with the same flags",
                      descriptor, tap->name_, taps[0].name_));
    }
    taps.push_back(std::move(*tap));
  }
  return taps;
}

Result<Tap> Tap::adopt(int descriptor) {
  const std::string what = fmt::format("file descriptor {}", descriptor);
  // A duplicate: the guest may reboot, and its next life needs the descriptor again.
  UniqueFd fd(::fcntl(descriptor, F_DUPFD_CLOEXEC, 0));
  if (!fd) return fail_errno(what + ": taking it over", errno);
  ifreq request = {};
  if (::ioctl(fd.get(), TUNGETIFF, &request) != 0 || (request.ifr_flags & IFF_TAP) == 0) {
    return fail(what + ": it is no tap; pass one that TUNSETIFF has attached to its interface");
  }
  if ((request.ifr_flags & IFF_NO_PI) == 0)
    return fail(what + ": its tap puts a packet header in front of frames; open it with IFF_NO_PI");
  const int flags = ::fcntl(fd.get(), F_GETFL);
  if (flags < 0 || ::fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK) != 0)
    return fail_errno(what + ": making it non-blocking", errno);
  return Tap(std::move(fd), std::string(request.ifr_name, ::strnlen(request.ifr_name, IFNAMSIZ)),
             (request.ifr_flags & IFF_VNET_HDR) != 0);
}

Result<Tap> Tap::duplicate() const {
  UniqueFd fd(::fcntl(fd_.get(), F_DUPFD_CLOEXEC, 0));
  if (!fd) return fail_errno(fmt::format("tap {}: taking its descriptor over", name_), errno);
  return Tap(std::move(fd), name_, vnet_header_);
}

unsigned Tap::probe_offloads() const {
  if (!vnet_header_) return 0;
  unsigned known = 0;
  // The kernel takes all of a request or nothing of it.
  for (const unsigned more : {tun_offload::kCsum, tun_offload::kTso, tun_offload::kUfo, tun_offload::kUso}) {
    if (set_offloads(known | more)) known |= more;
  }
  set_offloads(0);
  return known;
}

bool Tap::set_offloads(unsigned offloads) const { return ::ioctl(fd(), TUNSETOFFLOAD, offloads) == 0; }

void Tap::set_carrier(bool on) const {
  int value = on ? 1 : 0;
  ::ioctl(fd(), TUNSETCARRIER, &value);
}

bool Tap::set_filter(std::span<const MacAddress> addresses, bool all_multicast) const {
  // struct tun_filter ends in an array.
  std::vector<std::byte> bytes(sizeof(tun_filter) + addresses.size() * sizeof(MacAddress));
  const tun_filter filter{.flags = static_cast<__u16>(all_multicast ? TUN_FLT_ALLMULTI : 0),
                          .count = static_cast<__u16>(addresses.size())};
  std::memcpy(bytes.data(), &filter, sizeof filter);
  if (!addresses.empty()) std::memcpy(bytes.data() + sizeof filter, addresses.data(), addresses.size_bytes());
  return ::ioctl(fd(), TUNSETTXFILTER, bytes.data()) >= 0;
}

void Tap::clear_filter() const { set_filter({}, false); }

bool Tap::set_header_size(std::size_t size) const {
  int value = static_cast<int>(size);
  return !vnet_header_ || ::ioctl(fd(), TUNSETVNETHDRSZ, &value) == 0;
}

bool Tap::set_attached(bool attached) const {
  ifreq request = {};
  request.ifr_flags = attached ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE;
  return ::ioctl(fd(), TUNSETQUEUE, &request) == 0;
}

Tap::Transfer Tap::read(std::span<const iovec> iovecs) const {
  ssize_t size = 0;
  do {
    size = ::readv(fd_.get(), iovecs.data(), static_cast<int>(iovecs.size()));
  } while (size < 0 && errno == EINTR);
  return size < 0 ? failed_transfer(errno) : Transfer{Outcome::done, static_cast<std::size_t>(size)};
}

Tap::Transfer Tap::write(std::span<const iovec> iovecs) const {
  ssize_t size = 0;
  do {
    size = ::writev(fd_.get(), iovecs.data(), static_cast<int>(iovecs.size()));
  } while (size < 0 && errno == EINTR);
  return size < 0 ? failed_transfer(errno) : Transfer{Outcome::done, static_cast<std::size_t>(size)};
}

}  // namespace balloon::vmm
