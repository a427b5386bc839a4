// SPDX-License-Identifier: Apache-2.0
// The journal of a real daemon, and what balloon-sim and balloonctl make of it.
#include <signal.h>

#include <filesystem>

#include "tests/integration/daemon_fixture.h"

namespace balloon::test {
namespace {

class JournaledDaemonTest : public DaemonTest {
 protected:
  void SetUp() override {
    write_policy("");
    start_with_journal();
  }
  void start_with_journal() { start("journal: {directory: " + journal() + "}\n"); }
  std::string journal() const { return directory_.file("journal"); }

  /// Two guests change what they use for a while.
  void live(FakeVmm& a, FakeVmm& b) const {
    for (std::uint64_t i = 0; i < 30; ++i) {
      a.send_stats((300 + 40 * i) * kMiB);
      b.send_stats((1500 - 40 * i) * kMiB);
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
  }
  nlohmann::json replay_json(std::vector<std::string> more = {}, int code = 0) const {
    more.insert(more.begin(), {BALLOON_SIM, "replay", journal(), "-o", "json"});
    const Outcome outcome = run(more);
    EXPECT_EQ(outcome.exit_code, code) << outcome.out << outcome.err;
    return nlohmann::json::parse(outcome.out, nullptr, false);
  }
};

TEST_F(JournaledDaemonTest, ARunThatWasKilledAndTheOneAfterItReplayToIdenticalPlans) {
  {
    FakeVmm a(socket(), FakeVmm::guest("a", 2 * kGiB, 2 * kGiB));
    FakeVmm b(socket(), FakeVmm::guest("b", 2 * kGiB, 2 * kGiB));
    live(a, b);
    write_policy("defaults: {min: 512MiB}\n");
    daemon_->signal(SIGHUP);
    live(a, b);
    daemon_->signal(SIGKILL);
    ASSERT_EQ(daemon_->wait(), 128 + SIGKILL);
  }
  const auto killed = replay_json();
  EXPECT_EQ(killed.at("runs"), 1);
  EXPECT_EQ(killed.at("different_ticks"), 0) << killed.dump(1);
  EXPECT_GT(killed.at("ticks"), 20) << "at most the last moment is lost";

  start_with_journal();
  {
    FakeVmm a(socket(), FakeVmm::guest("a", 2 * kGiB, kGiB));
    FakeVmm b(socket(), FakeVmm::guest("b", 2 * kGiB, kGiB));
    live(a, b);
    daemon_->signal(SIGTERM);
    ASSERT_EQ(daemon_->wait(), 0);
  }
  const auto both = replay_json();
  EXPECT_EQ(both.at("runs"), 2);
  EXPECT_EQ(both.at("different_ticks"), 0) << both.dump(1);
  EXPECT_EQ(both.at("missing_ticks"), 0);
  EXPECT_GT(both.at("ticks"), killed.at("ticks"));
  EXPECT_TRUE(both.at("guests").contains("b"));
  EXPECT_EQ(run({BALLOONCTL, "replay", journal()}).exit_code, 0) << "the same by the other door";
}

TEST_F(JournaledDaemonTest, APolicyFileShowsWhatItWouldHaveDoneOtherwise) {
  {
    FakeVmm a(socket(), FakeVmm::guest("a", 2 * kGiB, 2 * kGiB));
    FakeVmm b(socket(), FakeVmm::guest("b", 2 * kGiB, 2 * kGiB));
    live(a, b);
  }
  const std::string generous = directory_.write("generous.yaml", "guests: [{name: a, min: 1900MiB}]\n");
  const auto report = replay_json({"--policy", generous});
  EXPECT_GT(report.at("guests").at("a").at("other_targets"), 0) << report.dump(1);
  EXPECT_GT(report.at("guests").at("a").at("more_byte_ticks"), 0);
  EXPECT_FALSE(report.at("first_difference").is_null());
  const auto of_law = replay_json({"--law", "static", "--guest", "b"});
  EXPECT_EQ(of_law.at("guests").size(), 1U);

  const Outcome table = run({BALLOONCTL, "replay", journal(), "--policy", generous});
  EXPECT_EQ(table.exit_code, 0) << table.err;
  EXPECT_NE(table.out.find("Decided by:  the policy " + generous), std::string::npos) << table.out;
  const std::string bad = directory_.write("bad.yaml", "guests: [{name: a, mni: 1GiB}]\n");
  const Outcome refused = run({BALLOON_SIM, "replay", journal(), "--policy", bad});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_NE(refused.err.find("mni: unknown key; expected one of"), std::string::npos) << refused.err;
}

TEST_F(JournaledDaemonTest, TheDirectoryIsMadeAndOneThatIsNotThereIsSaid) {
  ASSERT_TRUE(eventually([&] {
    std::error_code none;
    return !std::filesystem::is_empty(journal(), none) && !none;
  }));
  EXPECT_EQ(daemon_->log().find("decisions are not recorded"), std::string::npos);
  const Outcome nothing = run({BALLOON_SIM, "replay", directory_.file("nowhere")});
  EXPECT_EQ(nothing.exit_code, 1);
  EXPECT_NE(nothing.err.find("nowhere"), std::string::npos);
}

}  // namespace
}  // namespace balloon::test
