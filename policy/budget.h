// SPDX-License-Identifier: Apache-2.0
// How much memory the guests may have altogether.
#pragma once

#include <optional>

#include "policy/reserve.h"
#include "policy/tunables.h"
#include "policy/types.h"

namespace balloon::policy {

class Budget {
 public:
  /// What guests hold in RAM now and what the host could still give, less the reserve, which is lent to
  /// `guests` in want; with the part of KSM's profit that may be lent, once. Memory in host swap is not
  /// counted, and of a guest's process no more than the guest's size (the rest is the VMM's own). Falls at
  /// once, rises by budget_rise_ratio_per_second.
  Bytes update(const Snapshot& snapshot, const GuestsInWant& guests, double elapsed,
               const Tunables& tunables);

  /// What of the host's memory is to be kept from guests now.
  Bytes reserve() const { return reserve_; }

  /// What guests may go on to have until they have given back what is beyond the budget: all that there is,
  /// the reserve included, which is for just that.
  Bytes most() const { return most_; }

 private:
  Reserve keeping_;
  Bytes reserve_{};
  Bytes most_{};
  std::optional<double> budget_;
};

}  // namespace balloon::policy
