// SPDX-License-Identifier: Apache-2.0
// Scenarios under several laws, side by side: as table, JSON, CSV or plot.
#pragma once

#include <string>
#include <vector>

#include "policy/sim/jobs.h"

namespace balloon::policy::sim {

/// One scenario under each law, with what others are measured against.
struct Comparison {
  const Scenario* scenario = nullptr;
  std::uint64_t seed = 0;
  std::vector<const Contender*> laws;
  std::vector<RunResult> results;  ///< by law
  RunResult fixed;                 ///< under the static partition
  RunResult foresight;
  double bound = 0;  ///< of cost
};

struct CompareOptions {
  std::uint64_t seed = 1;
  std::size_t samples = 0;
  bool timing = false;  ///< show real time too, which is not the same each time
};

std::vector<Comparison> compare(const std::vector<Scenario>& scenarios,
                                const std::vector<const Contender*>& laws, const CompareOptions& options,
                                const OnProgress& on_progress);

/// Deficit as a part of the static partition's; 0 when both have none, not a number when only the partition
/// has none.
double part_of_static(const Comparison& comparison, const RunResult& result);

std::string to_table(const std::vector<Comparison>& comparisons, const CompareOptions& options);
std::string to_json(const std::vector<Comparison>& comparisons, const CompareOptions& options);
std::string to_csv(const std::vector<Comparison>& comparisons, const CompareOptions& options);
/// A page of its own, without anything from a network: each guest's size and demand over time, for each law.
std::string to_html(const std::vector<Comparison>& comparisons);

}  // namespace balloon::policy::sim
