// SPDX-License-Identifier: Apache-2.0
// What a guest needed at its peaks of late, and what is enough for it when it comes back to one.
#pragma once

#include <array>
#include <optional>

#include "policy/tunables.h"
#include "policy/types.h"

namespace balloon::policy {

class Peaks {
 public:
  /// What a guest should have, in bytes: with all of its margin, and with what is left of that before it is
  /// grown again.
  struct Level {
    double need = 0;
    double low = 0;
  };

  /// Takes in what it should have at `now`. The peak counts as proved once need has fallen by more than
  /// `margin` below it: then it was a peak, and no step on the way up.
  void note(const Level& level, double margin, Time now, const Tunables& tunables);

  /// The largest need in this peak_window and the one before.
  double need() const { return peak_.need; }
  /// What is enough at the peak that it came back from last; 0: it came back from none.
  double proved() const { return proved_; }

 private:
  std::array<Level, 2> windows_{};  ///< the window of time before, and this one
  std::optional<Time> from_;        ///< begin of this one
  Level peak_;
  double proved_ = 0;
};

}  // namespace balloon::policy
