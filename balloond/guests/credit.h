// SPDX-License-Identifier: Apache-2.0
// How much of what a VMM claims counts. A guest's sizes are its VMM's word; what all guests of one process
// claim together counts for no more than the process can have, and the host has.
#pragma once

#include <cstdint>

#include "policy/types.h"

namespace balloon::daemon {

/// What is claimed is halved this many times for policy, and what policy answers is doubled as often for the
/// VMM. So a claim keeps its proportions, and a step on one side is a step on the other.
struct Credit {
  std::uint8_t halvings = 0;

  /// For guests that claim `claimed` together, of a process that can have `possible`.
  static Credit of(policy::Bytes claimed, policy::Bytes possible);

  bool is_full() const { return halvings == 0; }
  /// Whole pages, so that the way back leads to the same size.
  policy::Bytes counted(policy::Bytes claim) const;
  policy::Bytes claimed(policy::Bytes counted) const { return counted * (std::uint64_t{1} << halvings); }
  /// As policy is to see the guest: every size of it.
  void apply(policy::GuestSnapshot& guest) const;
};

}  // namespace balloon::daemon
