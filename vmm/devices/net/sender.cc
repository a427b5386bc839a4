// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/net/sender.h"

#include <climits>

#include "vmm/virtio/iovecs.h"

namespace balloon::vmm {

Sender::Outcome Sender::send(const Chain& chain, const Tap& tap) {
  const std::size_t header_size = shape_.header_size();
  const std::uint64_t size = chain.readable_size();
  frame_ = size > header_size ? size - header_size : 0;
  if (frame_ < kSmallestFrame || frame_ > Receiver::kLargestFrame) return Outcome::malformed;
  // Copied once; the kernel gets our copy, which the guest cannot change after the checks.
  NetHeader from_guest;
  chain.read(0, std::as_writable_bytes(std::span(&from_guest, 1)).first(header_size));
  const auto header = checked_send_header(from_guest, frame_, shape_.features);
  if (!header) return Outcome::malformed;
  header_ = *header;

  iovecs_.clear();
  if (shape_.tap_header) iovecs_.push_back({.iov_base = &header_, .iov_len = header_size});
  to_iovecs(chain.readable(), header_size, frame_, part_);
  iovecs_.insert(iovecs_.end(), part_.begin(), part_.end());
  if (iovecs_.size() > IOV_MAX) return Outcome::malformed;
  return tap.write(iovecs_).outcome == Tap::Outcome::done ? Outcome::sent : Outcome::dropped;
}

}  // namespace balloon::vmm
