// SPDX-License-Identifier: Apache-2.0
#include "policy/sim/recorded.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "policy/sim/generator.h"
#include "policy/sim/replay.h"

namespace balloon::policy::sim {
namespace {

namespace fs = std::filesystem;

class RecordedRunTest : public ::testing::Test {
 protected:
  RecordedRunTest() {
    std::string pattern = (fs::temp_directory_path() / "balloon-recorded-XXXXXX").string();
    directory_ = ::mkdtemp(pattern.data());
  }
  ~RecordedRunTest() override { fs::remove_all(directory_); }

  fs::path directory_;
};

TEST_F(RecordedRunTest, ReplaysToIdenticalPlans) {
  Scenario scenario = generate(3, {.guests = 6, .duration = std::chrono::minutes(3)});
  scenario.tunables.margin_ratio = 0.3;
  const auto recorded = RecordedRun::in((directory_ / "new").string());
  ASSERT_TRUE(recorded);
  run(scenario, recorded->of(contenders().front()), {.seed = 3});
  ASSERT_TRUE(recorded->written()) << recorded->written().error().message;
  const auto report = replay((directory_ / "new").string(), {}, {});
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_GE(report->ticks, 180U);
  EXPECT_EQ(report->different, 0U) << to_table(*report);
}

TEST_F(RecordedRunTest, SaysThatItCannotBeWritten) {
  const fs::path file = directory_ / "file";
  std::ofstream(file) << "in the way";
  EXPECT_FALSE(RecordedRun::in((file / "under").string()));
  const auto recorded = RecordedRun::in((directory_ / "gone").string());
  ASSERT_TRUE(recorded);
  fs::remove(directory_ / "gone");
  run(generate(1, {.guests = 2, .duration = std::chrono::seconds(10)}), recorded->of(contenders().front()),
      {});
  EXPECT_FALSE(recorded->written());
}

}  // namespace
}  // namespace balloon::policy::sim
