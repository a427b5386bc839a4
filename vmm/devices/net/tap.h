// SPDX-License-Identifier: Apache-2.0
// One queue of a tap interface: whole Ethernet frames, each with the kernel's virtio_net_hdr in front where
// the tap has it (IFF_VNET_HDR).
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"

namespace balloon::vmm {

using MacAddress = std::array<std::uint8_t, 6>;

class Tap {
 public:
  /// Attaches `queues` times to the existing interface `name`; makes none. Fails with what to do about it.
  static Result<std::vector<Tap>> open(const std::string& name, unsigned queues, bool vnet_header);
  /// Takes duplicates of descriptors that were opened for us, one a queue, all of one interface.
  static Result<std::vector<Tap>> adopt(std::span<const int> descriptors);

  /// The same queue once more: both must be closed before another program can have it.
  Result<Tap> duplicate() const;

  /// To be watched for frames, or for vhost.
  int fd() const { return fd_.get(); }
  /// The interface's name.
  const std::string& name() const { return name_; }
  bool has_vnet_header() const { return vnet_header_; }

  // For the whole interface, through any of its queues.

  /// Which of TUN_F_* the kernel knows. Leaves all off.
  unsigned probe_offloads() const;
  /// What the reader of this tap can deal with, of TUN_F_*.
  bool set_offloads(unsigned offloads) const;
  /// Whether the host sees a cable plugged in. Kernels before 5.0 have none to unplug.
  void set_carrier(bool on) const;
  /// Only frames to one of `addresses` (and all multicast, if wished) reach us; several more addresses than
  /// the kernel compares exactly let others through too.
  bool set_filter(std::span<const MacAddress> addresses, bool all_multicast) const;
  void clear_filter() const;

  /// Size of the header, 10 or 12 bytes.
  bool set_header_size(std::size_t size) const;

  // For this queue.

  /// Whether the kernel gives this queue frames. Only of an interface with several.
  bool set_attached(bool attached) const;

  enum class Outcome { done, would_block, failed, gone };
  struct Transfer {
    Outcome outcome;
    std::size_t size;  ///< of header and frame, when done
  };
  /// Takes the next frame. What does not fit into `iovecs` is lost.
  Transfer read(std::span<const iovec> iovecs) const;
  /// Sends one frame. `failed`: not this one (for example while the interface is down).
  Transfer write(std::span<const iovec> iovecs) const;

 private:
  Tap(UniqueFd fd, std::string name, bool vnet_header)
      : fd_(std::move(fd)), name_(std::move(name)), vnet_header_(vnet_header) {}
  static Result<Tap> attach(const std::string& name, bool several, bool vnet_header);
  static Result<Tap> adopt(int descriptor);

  UniqueFd fd_;
  std::string name_;
  bool vnet_header_;
};

}  // namespace balloon::vmm
