// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/net/receiver.h"

#include <algorithm>
#include <climits>

#include "vmm/virtio/iovecs.h"

namespace balloon::vmm {
namespace {

/// readv() takes IOV_MAX parts; two are ours: the header and the rest.
constexpr std::size_t kMostParts = IOV_MAX - 2;

}  // namespace

// Not initialised: most guests never touch it, and then it takes no memory.
Receiver::Receiver() : rest_(std::make_unique_for_overwrite<std::byte[]>(kLargestFrame)) {}

void Receiver::start(const FrameShape& shape, std::uint16_t queue_size) {
  shape_ = shape;
  buffers_.reserve(queue_size);
  spare_.reserve(queue_size);
  written_.reserve(queue_size);
  iovecs_.reserve(kMostParts + 2);
}

void Receiver::forget() {
  for (Chain& chain : buffers_) VirtQueue::forget(std::move(chain));
  buffers_.clear();
  first_ = 0;
  room_ = 0;
  rest_size_.reset();
}

Result<Receiver::Outcome> Receiver::receive(VirtQueue& queue, const Tap& tap, TurnBudget& budget) {
  if (rest_size_) return finish(queue, budget);
  const auto gathered = gather(queue, budget);
  if (!gathered) return std::unexpected(gathered.error());
  if (*gathered == Took::turn_over) return Outcome::turn_over;
  if (held() == 0) return Outcome::starved;
  const Outcome outcome = read_frame(tap);
  if (outcome != Outcome::received) return outcome;
  if (rest_size_) return finish(queue, budget);
  deliver(queue);
  return Outcome::received;
}

/// Takes one more usable buffer, if the guest has one. Useless ones are returned at once, as many as the turn
/// has room for: a guest may offer them as fast as they come back.
Result<Receiver::Took> Receiver::take_buffer(VirtQueue& queue, TurnBudget& budget) {
  // A merged frame may start with any buffer that holds the header (5.1.6.3.1).
  const std::size_t least = shape_.header_size() + (shape_.merge() ? 0 : kOrdinaryFrame);
  for (;;) {
    auto chain = queue.take();
    if (!chain) return std::unexpected(std::move(chain.error()));
    if (!*chain) {
      if (queue.enable_kicks()) continue;
      return Took::none;
    }
    const std::uint64_t room = (*chain)->writable_size();
    if (room < least) {
      ++malformed_;
      queue.put(std::move(**chain), 0);
      budget.take_chain();
      if (budget.over()) return Took::turn_over;
      continue;
    }
    if (buffers_.size() == buffers_.capacity()) make_room();
    buffers_.push_back(std::move(**chain));
    room_ += room;
    return Took::one;
  }
}

/// Takes buffers until the largest frame fits, or as many as there are.
Result<Receiver::Took> Receiver::gather(VirtQueue& queue, TurnBudget& budget) {
  const std::uint64_t wanted = shape_.merge() ? shape_.header_size() + kLargestFrame : 1;
  while (room_ < wanted && held() < queue.size()) {
    const auto took = take_buffer(queue, budget);
    if (!took || *took != Took::one) return took;
  }
  return Took::one;
}

/// Moves the buffers to the front of the storage: it was made for all that a queue can hold.
void Receiver::make_room() {
  for (std::size_t i = first_; i < buffers_.size(); ++i) spare_.push_back(std::move(buffers_[i]));
  buffers_.clear();
  buffers_.swap(spare_);
  first_ = 0;
}

/// One system call: header to us, frame to the guest, what does not fit to us.
Receiver::Outcome Receiver::read_frame(const Tap& tap) {
  const std::size_t header_size = shape_.header_size();
  header_ = {};
  iovecs_.clear();
  if (shape_.tap_header) iovecs_.push_back({.iov_base = &header_, .iov_len = header_size});
  std::uint64_t room = 0;
  std::size_t skip = header_size;
  for (std::size_t i = first_; i < buffers_.size() && iovecs_.size() < kMostParts; ++i) {
    to_iovecs(buffers_[i].writable(), skip, kLargestFrame, part_);
    for (const iovec& part : part_) {
      if (iovecs_.size() > kMostParts) break;
      iovecs_.push_back(part);
      room += part.iov_len;
    }
    skip = 0;
    if (!shape_.merge()) break;
  }
  iovecs_.push_back({.iov_base = rest_.get(), .iov_len = kLargestFrame});

  const Tap::Transfer read = tap.read(iovecs_);
  if (read.outcome == Tap::Outcome::would_block) return Outcome::tap_empty;
  if (read.outcome != Tap::Outcome::done) return Outcome::tap_failed;
  const std::size_t before = shape_.tap_header ? header_size : 0;
  if (read.size < before) return Outcome::tap_failed;
  frame_ = read.size - before;
  if (frame_ <= room) return Outcome::received;
  if (!shape_.merge()) return Outcome::dropped;  // the buffer is for the next frame
  rest_size_ = frame_ - static_cast<std::size_t>(room);
  return Outcome::received;
}

/// The guest had too few buffers for the frame: takes more, until all of it has a place.
Result<Receiver::Outcome> Receiver::finish(VirtQueue& queue, TurnBudget& budget) {
  const std::uint64_t needed = shape_.header_size() + frame_;
  while (room_ < needed) {
    if (held() == queue.size()) {
      rest_size_.reset();  // the whole queue does not hold it
      return Outcome::dropped;
    }
    const auto took = take_buffer(queue, budget);
    if (!took) return std::unexpected(took.error());
    if (*took == Took::turn_over) return Outcome::turn_over;
    if (*took == Took::none) return Outcome::starved;
  }
  // Where the rest begins, counted over all buffers; whatever is before it the kernel has written.
  std::uint64_t at = needed - *rest_size_;
  std::size_t done = 0;
  for (std::size_t i = first_; i < buffers_.size() && done < *rest_size_; ++i) {
    const std::uint64_t size = buffers_[i].writable_size();
    if (at < size) {
      done += buffers_[i].write(at, std::span(rest_.get(), *rest_size_).subspan(done));
      at = size;
    }
    at -= size;
  }
  rest_size_.reset();
  deliver(queue);
  return Outcome::received;
}

/// Writes the header, and returns the buffers that the frame took.
void Receiver::deliver(VirtQueue& queue) {
  std::uint64_t left = shape_.header_size() + frame_;
  written_.clear();
  for (std::size_t i = first_; left > 0; ++i) {
    const std::uint64_t size = std::min(left, buffers_[i].writable_size());
    room_ -= buffers_[i].writable_size();
    written_.push_back(static_cast<std::uint32_t>(size));
    left -= size;
  }
  // Without GUEST_CSUM the guest would not look at it, and it must be zero (5.1.6.4.1).
  if ((shape_.features & net_feature::kGuestCsum) == 0) header_ = {};
  // Also in a header that the guest does not merge by (5.1.6.4.1).
  header_.num_buffers = static_cast<std::uint16_t>(written_.size());
  buffers_[first_].write(0, std::as_bytes(std::span(&header_, 1)).first(shape_.header_size()));
  queue.put_all(std::span(buffers_).subspan(first_, written_.size()), written_);
  first_ += written_.size();
  if (first_ == buffers_.size()) {
    buffers_.clear();
    first_ = 0;
  }
}

}  // namespace balloon::vmm
