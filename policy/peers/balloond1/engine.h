// SPDX-License-Identifier: Apache-2.0
// The engine: Snapshot in, Plan out. Deterministic: the same sequence of snapshots gives the same plans.
#pragma once

#include <memory>

#include "policy/controller.h"
#include "policy/peers/balloond1/tunables.h"
#include "policy/types.h"

namespace balloon::policy::peers::balloond1 {

class Engine final : public Controller {
 public:
  explicit Engine(const Tunables& tunables);
  ~Engine() override;
  Engine(Engine&&) noexcept;
  Engine& operator=(Engine&&) noexcept;

  /// O(n log n) in guests. Remembers per guest what smoothing, holds and progress need; forgets guests that
  /// are gone.
  Plan decide(const Snapshot& snapshot) override;

  /// New tunables from the next decision on; what was learned stays.
  void set_tunables(const Tunables& tunables);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace balloon::policy::peers::balloond1
