// SPDX-License-Identifier: Apache-2.0
// How much of a list goes into one answer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

namespace balloon::daemon {

class Page {
 public:
  /// Clients take messages of 4 MiB unless they say otherwise (gRPC's default): some room is for the rest.
  static constexpr std::size_t kBytesMost = 3U << 20;

  /// Of `size` elements at most; 0: of all, whatever they take.
  explicit Page(std::uint32_t size)
      : left_(size == 0 ? kNoLimit : size), bytes_left_(size == 0 ? kNoLimit : kBytesMost) {}

  /// Whether there is room for one more, of `bytes`. For the first there always is.
  bool takes(std::size_t bytes) {
    if (left_ == 0 || (bytes > bytes_left_ && !first_)) return false;
    first_ = false;
    --left_;
    bytes_left_ -= bytes > bytes_left_ ? bytes_left_ : bytes;
    return true;
  }

 private:
  static constexpr std::size_t kNoLimit = std::numeric_limits<std::size_t>::max();
  std::size_t left_;
  std::size_t bytes_left_;
  bool first_ = true;
};

}  // namespace balloon::daemon
