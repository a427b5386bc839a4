// SPDX-License-Identifier: Apache-2.0
// The control queue (virtio 1.2, 5.1.6.5): takes a command apart and answers it.
#pragma once

#include <cstdint>
#include <vector>

#include "vmm/devices/net/tap.h"
#include "vmm/virtio/queue.h"

namespace balloon::vmm {

/// Which frames the guest wants (5.1.6.5.1, 5.1.6.5.2).
struct ReceiveFilter {
  /// Addresses kept of each kind of table; with more, the guest gets all frames of the kind. As QEMU.
  static constexpr std::size_t kTable = 64;

  bool promiscuous = true;  ///< until the driver says otherwise
  bool all_multicast = false;
  bool all_unicast = false;         ///< the table of unicast addresses did not fit
  bool multicast_overflow = false;  ///< that of multicast addresses did not
  std::vector<MacAddress> unicast;
  std::vector<MacAddress> multicast;

  /// The addresses to compare with, exact ones first; `mac` is the guest's own.
  std::vector<MacAddress> addresses(const MacAddress& mac) const;
};

/// What the commands do. Each returns whether it was done.
class NetCommands {
 public:
  virtual ~NetCommands() = default;
  virtual ReceiveFilter& filter() = 0;
  virtual bool filter_changed() = 0;
  virtual bool set_mac(const MacAddress& mac) = 0;
  virtual bool announced() = 0;
  virtual bool set_queue_pairs(unsigned pairs) = 0;
  /// `features`: which of the negotiated GUEST_* bits are on from now on.
  virtual bool set_guest_offloads(std::uint64_t features) = 0;
};

inline constexpr std::uint8_t kControlOk = 0;
inline constexpr std::uint8_t kControlError = 1;

/// Carries out the command in `chain` if its feature was negotiated, and writes the answer; returns the used
/// length. Commands that are unknown, or of features that are not offered (VLAN filter, RX_EXTRA, RSS), are
/// answered with an error.
std::uint32_t answer_control(const Chain& chain, std::uint64_t features, NetCommands& commands);

}  // namespace balloon::vmm
