#include "vmm/devices/net/tap.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

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
    case EINVAL:
      return fail(
          fmt::format("tap {}: it is no single-queue tap interface (ip tuntap show lists what it is)", name));
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

Result<Tap> Tap::open(const std::string& name) {
  BALLOON_TRY(check_name(name));
  BALLOON_TRY(check_exists(name));
  UniqueFd fd(::open(kTunDevice, O_RDWR | O_CLOEXEC | O_NONBLOCK));
  if (!fd) {
    return fail_errno(
        fmt::format("tap {}: opening {} (is the tun module loaded, and may you read and write it?)", name,
                    kTunDevice),
        errno);
  }
  ifreq request = request_for(name);
  // No IFF_VNET_HDR: no offload is negotiated, so the kernel gives and takes complete frames, and a guest's
  // header never reaches it.
  request.ifr_flags = IFF_TAP | IFF_NO_PI;
  if (::ioctl(fd.get(), TUNSETIFF, &request) != 0) return attach_failed(name, errno);
  return Tap(std::move(fd));
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
