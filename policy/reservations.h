// SPDX-License-Identifier: Apache-2.0
// Reservations: guests to be. Memory is freed for them as for guests, kept as it comes free, and granted only
// when it is really there.
#pragma once

#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "policy/allocation.h"
#include "policy/types.h"

namespace balloon::policy {

/// Whether the guest is the one that the reservation is for: of its name, and with room for what is reserved.
inline bool can_take(const Reservation& reservation, const GuestSnapshot& guest) {
  return guest.name == reservation.id && guest.memory >= reservation.min;
}

/// What a reservation could be made from.
struct Supply {
  Bytes budget{};
  double speed = 0;  ///< at which all balloons together can free memory, bytes a second
  Bytes free{};      ///< of the budget, held by no guest
};

/// What is guaranteed to all of them.
double sum_of_minimums(std::span<const Consumer> consumers);

/// Whether a reservation of which `kept` is kept can be had at all, and by its deadline. `guaranteed`: to
/// guests and to reservations before it.
bool is_possible(const Reservation& reservation, Bytes kept, Time now, const Supply& supply,
                 double guaranteed);

/// As which consumer a pending reservation takes part. `promised`: to reservations before it.
Levels levels_of(const Reservation& reservation, const Supply& supply, double promised,
                 std::span<const Consumer> guests);

class Reservations {
 public:
  /// Looks at each reservation of the snapshot: whether it can still be had by its deadline. Adds to
  /// `consumers` (the guests) one for each, in order: with nothing for one that is denied.
  void review(const Snapshot& snapshot, const Supply& supply, std::vector<Consumer>& consumers);

  /// Keeps for each pending one what is free of its share (`shares`: one each, in order), at most `free`
  /// altogether; grants what is complete, or enough when its deadline is less than `last_moment` away. Writes
  /// plan.reservations.
  void keep(const Snapshot& snapshot, std::span<const Bytes> shares, Bytes free,
            std::chrono::nanoseconds last_moment, Plan& plan);

  /// Kept for all of them, granted or not.
  Bytes kept() const { return kept_; }

 private:
  struct Entry {
    GrantState state = GrantState::pending;
    Time deadline{};          ///< another one: another reservation, though of the same id
    Bytes granted{};          ///< once it is
    Bytes kept{};             ///< of that, once granted, what its guest is not counted at
    std::uint64_t round = 0;  ///< of the last review that saw it
  };

  std::unordered_map<std::string, Entry> entries_;
  std::uint64_t round_ = 0;
  Bytes kept_{};
};

}  // namespace balloon::policy
