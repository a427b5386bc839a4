// SPDX-License-Identifier: Apache-2.0
// For how long a guest needed how much memory: a histogram whose sizes rise by a twelfth of an octave (6 %).
// Pure.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <vector>

#include "policy/types.h"

namespace balloon::daemon {

using policy::Bytes;

class NeedHistogram {
 public:
  /// Of the size, how much time.
  struct Bucket {
    std::uint16_t size = 0;  ///< its number: bound(size) is the most that it stands for
    std::uint32_t seconds = 0;
    bool operator==(const Bucket&) const = default;
  };
  /// 16 MiB, then twelve steps for each doubling up to 64 TiB, which no guest exceeds (guests/sanitize.cc). A
  /// day in all of them takes some 800 bytes on disk.
  static constexpr std::uint16_t kSizes = 1 + 12 * 22;

  static std::uint16_t size_of(Bytes bytes);
  static Bytes bound(std::uint16_t size);

  void add(Bytes need, std::uint32_t seconds);
  void add(const NeedHistogram& other);

  /// What it needed no more than for `part` (0 to 1) of the time; nothing when there is no time.
  std::optional<Bytes> percentile(double part) const;
  Bytes max() const { return max_; }
  std::uint64_t seconds() const { return seconds_; }
  const std::vector<Bucket>& buckets() const { return buckets_; }

  /// As it was kept; nothing when that makes no sense: sizes that do not rise or are none, no time.
  static std::optional<NeedHistogram> from(const std::vector<Bucket>& buckets, Bytes max);

  bool operator==(const NeedHistogram&) const = default;

 private:
  void put(std::uint16_t size, std::uint32_t seconds);

  std::vector<Bucket> buckets_;  ///< by size; none without time
  Bytes max_{};
  std::uint64_t seconds_ = 0;
};

}  // namespace balloon::daemon
