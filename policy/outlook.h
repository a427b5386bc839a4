// SPDX-License-Identifier: Apache-2.0
// What a decision leaves for guests to be: how much there is, how soon, and what a reservation would meet.
// Plain values, for whoever asks later; the questions have no effect.
#pragma once

#include <chrono>
#include <vector>

#include "policy/allocation.h"
#include "policy/reservations.h"
#include "policy/types.h"

namespace balloon::policy {

/// As of one decision.
struct Outlook {
  /// A guest as one that could give.
  struct Giver {
    Bytes size{};      ///< what it keeps from others now
    double speed = 0;  ///< of its balloon, bytes a second; 0: it does not move, or frees nothing
    Bytes share_max = Bytes::max();  ///< it is to come down to this, whatever there is
  };

  Supply supply{};
  Bytes headroom{};  ///< what of the budget should stay free
  Surplus surplus = Surplus::headroom;
  std::vector<GroupLimits> groups{};
  std::vector<Consumer> consumers{};  ///< guests as in the snapshot, then reservations
  std::vector<Giver> givers{};        ///< the guests

  std::span<const Consumer> guests() const { return std::span(consumers).first(givers.size()); }
  /// To guests: their minimums, or what they hold where that cannot be changed.
  Bytes guaranteed() const;
  /// To reservations.
  Bytes promised() const;
  /// The most that a reservation could have, whatever has to be freed for it and however long that takes.
  Bytes most() const;
  /// By how much guarantees and promises exceed the budget: what would have to leave.
  Bytes deficit() const;
  /// What guests could give within `time`, by how fast their balloons have proved to be, and without what
  /// their programs use.
  Bytes reclaimable(std::chrono::nanoseconds time) const;
};

enum class Fit : std::uint8_t {
  no,             ///< a reservation is denied
  now,            ///< what is free covers it
  after_reclaim,  ///< guests give what is missing
  waits,          ///< programs of guests that it may not take from use what is missing: until they free it
};

/// A guest that would have less.
struct Squeeze {
  std::size_t guest = 0;  ///< its place in the snapshot
  Bytes from{};           ///< its share as it is
  Bytes to{};             ///< and as it would be
};

struct FitAnswer {
  Fit fit = Fit::no;
  bool too_large = false;               ///< with Fit::no: for this host, however long it took
  std::chrono::nanoseconds ready_in{};  ///< with Fit::after_reclaim: by the balloons' speed
  std::vector<Squeeze> squeezed{};      ///< who loses most first
};

/// What Reserve would be answered by the same decision. For several questions about one outlook.
class FitCheck {
 public:
  explicit FitCheck(const Outlook& outlook);

  FitAnswer check(Bytes min, Bytes max, std::uint32_t priority, std::chrono::nanoseconds within);

 private:
  const Outlook& outlook_;
  Allocation allocation_;
  std::vector<Consumer> consumers_;
  std::vector<Bytes> shares_;  ///< of the guests, as it is
};

}  // namespace balloon::policy
