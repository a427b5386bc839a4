// SPDX-License-Identifier: Apache-2.0
// The simulator against a real run (docs/calibration.md). The bounds are 1.3 times what was measured.
#include "tests/calibration/calibration.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "policy/sim/scenario_file.h"

namespace balloon::policy::sim {
namespace {

/// How far a prediction may be off. Ratios are of the larger to the smaller, less 1.
struct Bounds {
  double size = 0;          ///< mean error of guests' sizes over the run, as a part of boot memory
  double phase_size = 0;    ///< in each phase
  double moved = 0;         ///< ratio, GiB moved by balloons in each phase
  double satisfaction = 0;  ///< ratio, time until loads were there in each phase that fits
  double last_size = 0;     ///< ratio, of each guest's size at the end, where shares follow weights
};

double apart(double one, double other) {
  if (one <= 0 || other <= 0) return one == other ? 0 : 1e9;
  return std::max(one / other, other / one) - 1;
}

class Calibration : public testing::Test {
 protected:
  void SetUp() override { load("demo"); }

  void load(const std::string& name) {
    auto scenario = load_scenario(CALIBRATION_DIR "/" + name + ".yaml");
    ASSERT_TRUE(scenario) << scenario.error().message;
    scenario_ = std::move(*scenario);
    auto run = load_run(CALIBRATION_DIR "/" + name + "-run.json");
    ASSERT_TRUE(run) << run.error().message;
    run_ = std::move(*run);
  }

  void check(const Contender& contender, const Bounds& bounds) {
    const auto errors = compare(scenario_, contender, run_);
    ASSERT_TRUE(errors) << errors.error().message;
    fmt::print("{}\n{}", contender.name, describe(*errors, run_));
    EXPECT_LE(errors->size, bounds.size);
    for (const PhaseErrors& phase : errors->phases) {
      EXPECT_LE(phase.size, bounds.phase_size) << phase.name;
      EXPECT_LE(apart(phase.simulated_moved, phase.recorded_moved), bounds.moved) << phase.name;
      EXPECT_EQ(phase.simulated_satisfied, phase.recorded_satisfied) << phase.name;
      EXPECT_LE(apart(phase.simulated_p50, phase.recorded_p50), bounds.satisfaction) << phase.name;
      EXPECT_LE(apart(phase.simulated_max, phase.recorded_max), bounds.satisfaction) << phase.name;
    }
    for (std::size_t i = 0; i < run_.guests.size(); ++i)
      EXPECT_LE(apart(errors->last_size[i], 1), bounds.last_size) << run_.guests[i];
  }

  Scenario scenario_;
  RecordedRun run_;
};

TEST_F(Calibration, ThePlantFollowsTheTargetsOfARealRunAsItsGuestsDid) {
  check(recorded_targets(run_),
        {.size = 0.026, .phase_size = 0.056, .moved = 0.10, .satisfaction = 0.17, .last_size = 0.01});
}

TEST_F(Calibration, ThePlantUnderTheLawOfTheRunDoesWhatTheRealHostDid) {
  // balloond-1 is the law that decided in the recorded run.
  check(*find_contender("balloond-1"),
        {.size = 0.048, .phase_size = 0.064, .moved = 0.09, .satisfaction = 0.43, .last_size = 0.03});
}

/// Of a run that nothing was fitted to, sizes are foretold; how long loads take is not (docs/calibration.md).
TEST_F(Calibration, ThePlantForetellsTheSizesOfARunBesideOtherWork) {
  load("busy");
  for (const Contender& contender : {recorded_targets(run_), *find_contender("balloond-1")}) {
    const auto errors = compare(scenario_, contender, run_);
    ASSERT_TRUE(errors) << errors.error().message;
    fmt::print("{}\n{}", contender.name, describe(*errors, run_));
    EXPECT_LE(errors->size, contender.name == "recorded" ? 0.041 : 0.11);
  }
}

TEST_F(Calibration, WithTheSpeedsOfHardwareItIsTwiceAsFarOff) {
  const auto with = compare(scenario_, recorded_targets(run_), run_);
  scenario_.speeds = {};
  const auto without = compare(scenario_, recorded_targets(run_), run_);
  ASSERT_TRUE(with && without);
  EXPECT_GT(without->size, 2 * with->size) << "speeds matter: else nothing is calibrated";
}

TEST_F(Calibration, RefusesARunOfOtherGuests) {
  run_.guests.pop_back();
  const auto errors = compare(scenario_, recorded_targets(run_), run_);
  ASSERT_FALSE(errors);
  EXPECT_EQ(errors.error().message, "the scenario has 6 guests, the run 5");
}

std::string complaint(const std::string& text) {
  const auto path = std::filesystem::path(testing::TempDir()) / "calibration-run.json";
  std::ofstream(path) << text;
  const auto run = load_run(path);
  return run ? "accepted" : run.error().message;
}

TEST(RecordedRun, RefusesAFileThatIsNoRun) {
  EXPECT_NE(complaint("{"), "accepted");
  EXPECT_NE(complaint("{}"), "accepted");
  const std::string head = R"({"guests": ["A"], "phases": [], "columns": )";
  EXPECT_NE(complaint(head + R"(["seconds", "A.size", "A.target"], "rows": []})"), "accepted") << "no rows";
  EXPECT_NE(complaint(head + R"(["seconds", "A.size"], "rows": [[0, 1]]})"), "accepted") << "no targets";
  EXPECT_NE(complaint(head + R"(["seconds", "A.size", "A.target"], "rows": [[0, 1]]})"), "accepted")
      << "a row that is too short";
  EXPECT_EQ(complaint(head + R"(["seconds", "A.size", "A.target"], "rows": [[0, 1, 2]]})"), "accepted");
  EXPECT_NE(load_run("/nowhere").error().message.find("cannot be read"), std::string::npos);
}

}  // namespace
}  // namespace balloon::policy::sim
