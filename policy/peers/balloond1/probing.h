// SPDX-License-Identifier: Apache-2.0
// When memory may be taken from a guest that nobody presses for it: step by step, with a hold after each
// growth, and the longer the more often what was taken had to be given back.
#pragma once

#include <optional>

#include "policy/peers/balloond1/tunables.h"
#include "policy/types.h"

namespace balloon::policy::peers::balloond1 {

class Probing {
 public:
  /// Seen for the first time: it has just booted, or we have. Nothing is taken from it for a while.
  void adopt(Time now, const Tunables& tunables);
  /// It is given memory that it does not have yet, or it hurts.
  void grown(Time now, const Tunables& tunables);
  /// Memory is taken from it.
  void shrunk() { taken_ = true; }

  /// For how long yet it is held; 0: it is not.
  std::chrono::nanoseconds held_for(Time now) const;

 private:
  std::chrono::nanoseconds hold_{};
  std::optional<Time> grown_at_;
  bool taken_ = false;  ///< memory since it was last grown
};

}  // namespace balloon::policy::peers::balloond1
