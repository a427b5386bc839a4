// SPDX-License-Identifier: Apache-2.0
// The control laws that can be compared: rivals' as published, simple baselines, and our engine.
#pragma once

#include <chrono>
#include <memory>
#include <span>
#include <string_view>

#include "policy/controller.h"
#include "policy/executor.h"
#include "policy/tunables.h"
#include "policy/urgency.h"

namespace balloon::policy::peers {

/// A two-phase rule: of a plan, the moves that may be made now.
using Admit = std::vector<Move>(Plan& plan, std::span<const GuestSnapshot> guests);

struct Law {
  std::string_view name;
  std::string_view summary;
  std::chrono::nanoseconds period;  ///< between two calls of decide()
  /// A new one that has seen nothing yet. The tunables are our engine's: rivals take nothing from them.
  std::unique_ptr<Controller> (*make)(const Tunables& tunables);
  Admit* admit = nullptr;         ///< null: what a plan says is asked for at once
  UrgencyRule* urgent = nullptr;  ///< what it decides for before its period is over; null: nothing
  /// How often guests' statistics come, where the original has a way of its own for them; 0: as everybody's.
  std::chrono::nanoseconds stats_period{};
};

/// All of them as they are published, with their own periods; ours, "balloond", is the first.
std::span<const Law> laws();

/// Those among them that decide again and again, with our timing: each second, sooner when a guest is in
/// need, by statistics as often as ours. Named for that: "mom@1s".
std::span<const Law> laws_at_our_timing();

/// Of either kind. Null when there is none of that name.
const Law* find_law(std::string_view name);

}  // namespace balloon::policy::peers
