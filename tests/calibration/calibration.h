// SPDX-License-Identifier: Apache-2.0
// A real run beside the simulator's prediction of the same scenario, and how far apart they are.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "policy/sim/runner.h"

namespace balloon::policy::sim {

/// One phase of a run, by its demands: seconds since the first sample.
struct RunPhase {
  std::string name;
  double from = 0;
  double to = 0;
  int loads = 0;
  int satisfied = 0;
  double p50_seconds = 0;  ///< from the phase's begin until its loads were there, where they were
  double max_seconds = 0;
};

/// What import_run.py keeps of a run. Sizes in MiB.
struct RecordedRun {
  std::vector<std::string> guests;
  std::vector<RunPhase> phases;
  std::vector<double> time;                 ///< seconds, of each row
  std::vector<std::vector<double>> size;    ///< by guest
  std::vector<std::vector<double>> target;  ///< by guest
};

Result<RecordedRun> load_run(const std::string& path);

/// A law that asks for what was asked for in the run: then only the plant is on trial.
Contender recorded_targets(const RecordedRun& run);

/// Simulated against recorded, of one phase.
struct PhaseErrors {
  std::string name;
  double size = 0;             ///< mean absolute difference of guests' sizes, as a part of their boot memory
  double recorded_moved = 0;   ///< GiB, by balloons
  double simulated_moved = 0;  ///< GiB
  int recorded_satisfied = 0;
  int simulated_satisfied = 0;
  double recorded_p50 = 0;  ///< seconds until loads were there; 0 when none was
  double recorded_max = 0;
  double simulated_p50 = 0;
  double simulated_max = 0;
};

struct Errors {
  std::vector<PhaseErrors> phases;
  double size = 0;                ///< over the run, as a part of boot memory
  std::vector<double> last_size;  ///< by guest: simulated over recorded, mean of the run's last minute
};

/// The scenario's guests must be the run's, in the same order, and have one boot memory.
Result<Errors> compare(const Scenario& scenario, const Contender& contender, const RecordedRun& run);

/// The errors as a table.
std::string describe(const Errors& errors, const RecordedRun& run);

}  // namespace balloon::policy::sim
