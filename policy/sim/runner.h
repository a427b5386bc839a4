// SPDX-License-Identifier: Apache-2.0
// One run: a scenario under a law.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "policy/controller.h"
#include "policy/peers/laws.h"
#include "policy/sim/scores.h"
#include "policy/sim/world.h"

namespace balloon::policy::sim {

/// A law that can be run: a rival, our engine, or the one with foresight.
struct Contender {
  std::string name;
  std::string summary;
  Time period{};
  peers::Admit* admit = nullptr;  ///< its two-phase rule; null: a plan is asked for at once
  UrgencyRule* urgent = nullptr;  ///< what it decides for before its period is over; null: nothing
  std::function<std::unique_ptr<Controller>(const Scenario&, std::uint64_t seed)> make;
  Time stats_period{};  ///< of guests that send statistics; 0: the scenario's
};

/// All of them: ours first, the one with foresight last.
const std::vector<Contender>& contenders();
/// Ours, the rivals with our timing ("mom@1s"), and the one with foresight.
const std::vector<Contender>& contenders_at_our_timing();
/// Of either kind, or hindsight-1s, which only who names it is shown. Null when there is none of that name.
const Contender* find_contender(std::string_view name);

/// What a report shows: one row a sample, in MiB.
struct Series {
  std::vector<double> time;  ///< seconds
  std::vector<std::string> guests;
  std::vector<std::vector<float>> size;     ///< by guest
  std::vector<std::vector<float>> demand;   ///< by guest
  std::vector<std::vector<float>> missing;  ///< of the demand, by guest
  std::vector<float> host_free;
  std::vector<float> host_swapped;
};

struct RunOptions {
  std::uint64_t seed = 1;
  std::size_t samples = 0;  ///< of the series; 0: none
};

struct RunResult {
  Scores scores;
  std::vector<GuestScores> guests;  ///< as in the scenario
  Series series;
  double decisions = 0;
  double decide_us = 0;  ///< mean, of real time: the one figure that is not the same each time
};

RunResult run(const Scenario& scenario, const Contender& contender, const RunOptions& options);

}  // namespace balloon::policy::sim
