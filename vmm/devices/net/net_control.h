// SPDX-License-Identifier: Apache-2.0
// What is asked of a network device from outside the guest. All may be called from any thread; all but
// set_link() wait for the device's turn, so the monitor and the link ask for nothing else while the guest
// runs.
#pragma once

#include <cstdint>

#include "vmm/devices/net/tap.h"

namespace balloon::vmm {

/// What the device did since it was made. Frames that vhost moves are not seen here, but in the tap's own
/// counters.
struct NetCounters {
  std::uint64_t received = 0;  ///< frames given to the guest
  std::uint64_t received_bytes = 0;
  std::uint64_t received_too_large = 0;  ///< dropped: larger than the guest's buffers
  std::uint64_t receive_malformed = 0;   ///< buffers returned at once: no room for a frame or its header
  std::uint64_t starved = 0;             ///< times that frames had to wait in the tap for a buffer
  std::uint64_t sent = 0;                ///< frames given to the tap
  std::uint64_t sent_bytes = 0;
  std::uint64_t send_malformed =
      0;  ///< dropped: no plausible size, or a header that asks for what was not agreed
  std::uint64_t send_dropped = 0;  ///< dropped: the tap did not take it, or the link is down
  std::uint64_t limited = 0;       ///< times that frames had to wait because of the rate limit
};

struct NetState {
  MacAddress mac;
  MacAddress own_mac;     ///< what it is again after a reset
  bool link = false;      ///< what the guest is told
  bool vhost = false;     ///< the kernel serves the queues now
  unsigned pairs = 0;     ///< queue pairs in use; 0: no driver
  unsigned offloads = 0;  ///< TUN_F_* that the guest takes now
};

class NetControl {
 public:
  virtual ~NetControl() = default;
  /// Plugs the cable in or pulls it; the guest is told.
  virtual void set_link(bool up) = 0;
  /// Asks the guest to tell its address to the network: after it moved, or was restored. Whether its driver
  /// can.
  virtual bool announce() = 0;
  /// While the virtual machine stands still, nothing reaches its memory by way of vhost; the loop that serves
  /// the device is paused by its owner.
  virtual void pause() = 0;
  virtual void resume() = 0;
  virtual NetState state() const = 0;
  virtual NetCounters counters() const = 0;
};

}  // namespace balloon::vmm
