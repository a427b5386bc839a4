// SPDX-License-Identifier: Apache-2.0
// Reservations: guests to be. Memory is freed for them as for guests, kept as it comes free, and granted only
// when it is really there.
#pragma once

#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "policy/peers/balloond1/allocation.h"
#include "policy/types.h"

namespace balloon::policy::peers::balloond1 {

/// What a reservation could be made from.
struct Means {
  Bytes budget{};
  double speed = 0;  ///< at which all balloons together can free memory, bytes a second
  Bytes free{};      ///< of the budget, held by no guest
};

class Reservations {
 public:
  /// Looks at each reservation of the snapshot: whether it can still be had by its deadline. Adds to
  /// `parties` (the guests) one party for each, in order: with nothing for one that is denied.
  void review(const Snapshot& snapshot, const Means& means, std::vector<Party>& parties);

  /// Keeps for each pending one what is free of its share (`shares`: one each, in order), at most `free`
  /// altogether; grants what is complete. Writes plan.reservations.
  void keep(const Snapshot& snapshot, std::span<const Bytes> shares, Bytes free, Plan& plan);

  /// Kept for all of them, granted or not.
  Bytes kept() const { return kept_; }

 private:
  struct Entry {
    GrantState state = GrantState::pending;
    Bytes granted{};          ///< once it is
    Bytes kept{};             ///< of that, once granted, what its guest is not counted at
    std::uint64_t round = 0;  ///< of the last review that saw it
  };

  bool possible(const Reservation& reservation, const Entry& entry, Time now, const Means& means,
                double guaranteed) const;

  std::unordered_map<std::string, Entry> entries_;
  std::uint64_t round_ = 0;
  Bytes kept_{};
};

}  // namespace balloon::policy::peers::balloond1
