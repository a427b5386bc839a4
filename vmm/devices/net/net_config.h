// SPDX-License-Identifier: Apache-2.0
// What a network device is told.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "vmm/devices/identity.h"
#include "vmm/devices/net/tap.h"

namespace balloon::vmm {

/// For each direction by itself. 0: no limit, and for a burst: a tenth of a second's worth.
struct NetRate {
  Bytes bytes{};  ///< a second
  Bytes bytes_burst{};
  std::uint32_t frames = 0;  ///< a second
  std::uint32_t frames_burst = 0;
  bool limits() const { return bytes > Bytes{0} || frames > 0; }
};

struct NetConfig {
  enum class Vhost {
    off,    ///< this process serves the queues
    on,     ///< the kernel does where it can
    force,  ///< the kernel does, or the guest does not start
  };
  static constexpr std::uint32_t kMaxQueuePairs = 64;  ///< one for each of the most vCPUs
  static constexpr std::uint32_t kDefaultQueueSize = 256;
  static constexpr std::uint32_t kMinQueueSize =
      64;  ///< holds the largest frame in the buffers that Linux makes
  static constexpr std::uint32_t kMaxQueueSize =
      1024;                                     ///< a chain of all of it is still one writev() (IOV_MAX)
  static constexpr std::uint32_t kMinMtu = 68;  ///< RFC 791; what virtio 1.2, 5.1.4.1 asks for
  static constexpr std::uint32_t kMaxMtu = 65535;

  std::string tap{};                 ///< name of a tap interface
  std::optional<MacAddress> mac{};   ///< unset: random, locally administered
  std::vector<std::uint32_t> fds{};  ///< instead of `tap`: descriptors of a tap's queues, opened for us
  std::uint32_t queues = 1;          ///< pairs; with `fds` as many as there are of these
  bool vnet_header = true;  ///< IFF_VNET_HDR of a tap that is opened by name; without it: no offloads
  bool offload = true;
  Vhost vhost = Vhost::off;
  std::vector<std::uint32_t> vhost_fds{};  ///< opened for us, one a pair; then `vhost` is not off
  std::uint32_t queue_size = kDefaultQueueSize;
  std::uint32_t mtu = 0;  ///< told to the guest; 0: not told, so 1500
  bool link = true;       ///< whether the cable is plugged in at the start
  NetRate rate{};
  DeviceIdentity identity{};

  /// "tap0", or "fd 5".
  std::string backend() const;
  std::uint32_t pairs() const { return fds.empty() ? queues : static_cast<std::uint32_t>(fds.size()); }
};

/// What a network device is plugged into.
struct NetPort {
  std::vector<Tap> taps;  ///< one a queue pair
  MacAddress mac{};
};

/// Whether a guest can have this address for its own.
bool is_unicast(const MacAddress& mac);

}  // namespace balloon::vmm
