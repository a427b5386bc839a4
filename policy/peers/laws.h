// The control laws that can be compared: rivals' as published, simple baselines, and our engine.
#pragma once

#include <chrono>
#include <memory>
#include <span>
#include <string_view>

#include "policy/controller.h"

namespace balloon::policy::peers {

struct Law {
  std::string_view name;
  std::string_view summary;
  std::chrono::nanoseconds period;        ///< between two calls of decide()
  bool two_phase;                         ///< its plans go through admit()
  std::unique_ptr<Controller> (*make)();  ///< a new one that has seen nothing yet
};

/// All of them; ours, "balloond", is the first.
std::span<const Law> laws();

/// Null when there is none of that name.
const Law* find_law(std::string_view name);

}  // namespace balloon::policy::peers
