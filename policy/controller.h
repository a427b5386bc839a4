// SPDX-License-Identifier: Apache-2.0
// A control law: Snapshot in, Plan out. The engine is one; rivals' laws (policy/peers) are others, for
// comparison.
#pragma once

#include "policy/types.h"

namespace balloon::policy {

class Controller {
 public:
  virtual ~Controller() = default;

  /// Decides what each guest should have now. Deterministic: the same sequence of snapshots gives the same
  /// plans.
  virtual Plan decide(const Snapshot& snapshot) = 0;
};

}  // namespace balloon::policy
