// SPDX-License-Identifier: Apache-2.0
// How far the ranking of laws leans on single constants of the plant: each at half and at double.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "policy/sim/sweep.h"

namespace balloon::policy::sim {

/// A constant of the plant that is measured, taken from a source, or guessed (effects.h, devices.h).
struct PlantConstant {
  std::string_view name;
  void (*scale)(Scenario& scenario, double factor);
};
std::span<const PlantConstant> plant_constants();

/// All laws with one constant changed.
struct SensitivityRow {
  std::string constant;  ///< empty: all as they are
  double factor = 1;
  std::vector<double> cost;          ///< mean over the seeds, by law
  std::vector<std::size_t> ranking;  ///< laws, the one with the least cost first
  std::vector<std::string> changed;  ///< "a before b": laws that have changed places against the first row
};

struct Sensitivity {
  SweepOptions options;
  std::vector<const Contender*> laws;
  std::vector<SensitivityRow> rows;
};

Sensitivity sensitivity(const std::vector<const Contender*>& laws, const SweepOptions& options,
                        const OnProgress& on_progress);

std::string to_table(const Sensitivity& sensitivity);
std::string to_json(const Sensitivity& sensitivity);

}  // namespace balloon::policy::sim
