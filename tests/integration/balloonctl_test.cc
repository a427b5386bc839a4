// SPDX-License-Identifier: Apache-2.0
#include <signal.h>

#include "tests/integration/daemon_fixture.h"

namespace balloon::test {
namespace {

class BalloonctlTest : public DaemonTest {
 protected:
  void SetUp() override {
    DaemonTest::SetUp();
    vmm_ = std::make_unique<FakeVmm>(socket(), FakeVmm::guest("web-1", 2 * kGiB, kGiB));
    // It sends no statistics until a test does.
    ASSERT_TRUE(eventually([&] { return state_of("web-1") == "stale"; })) << ctl({"show", "web-1"}).out;
  }
  std::unique_ptr<FakeVmm> vmm_;
};

TEST_F(BalloonctlTest, ListsGuestsAsAnAlignedTable) {
  const Outcome outcome = ctl({"list"});
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_TRUE(outcome.out.starts_with(
      "GUEST  STATE  MEMORY  USED  AVAILABLE  TARGET  ACTUAL  RESIDENT  REASON\nweb-1  stale   2 GiB"))
      << outcome.out;
  EXPECT_EQ(outcome.out.find('\033'), std::string::npos) << "colour though it is no terminal";
}

TEST_F(BalloonctlTest, ListsGuestsAsJsonWithBytesAsNumbers) {
  const auto json = ctl_json({"list"});
  ASSERT_EQ(json.at("guests").size(), 1U);
  const auto& guest = json.at("guests").at(0);
  EXPECT_EQ(guest.at("name"), "web-1");
  EXPECT_EQ(guest.at("state"), "stale");
  for (const char* key : {"actual_bytes", "target_bytes", "resident_bytes", "swapped_bytes", "weight",
                          "min_bytes", "max_bytes", "memory_bytes"}) {
    EXPECT_TRUE(guest.at(key).is_number_unsigned()) << key;
  }
  EXPECT_EQ(guest.at("memory_bytes"), 2 * kGiB);
  EXPECT_GT(guest.at("resident_bytes"), 0U) << "the VMM's process is this test";
  EXPECT_EQ(guest.at("pid"), ::getpid()) << "the kernel's word on the connection";
  EXPECT_EQ(guest.at("decision").at("reason"), "stale");
  EXPECT_TRUE(guest.at("stats").is_null());
  ASSERT_TRUE(eventually([&] {
    vmm_->send_stats(500 * kMiB);
    return !ctl_json({"show", "web-1"}).at("stats").is_null();
  }));
  EXPECT_TRUE(ctl_json({"show", "web-1"}).at("stats").at("available_bytes").is_number_unsigned());
}

TEST_F(BalloonctlTest, ShowHostAndExplainSayWhatTheyKnow) {
  EXPECT_NE(ctl({"show", "web-1"}).out.find("Limits:"), std::string::npos);
  EXPECT_NE(ctl({"host"}).out.find("Budget:"), std::string::npos);
  EXPECT_GT(ctl_json({"host"}).at("total_bytes"), kGiB);
  EXPECT_EQ(ctl({"explain", "web-1"}).exit_code, 0);
  EXPECT_GT(ctl({"explain", "web-1"}).out.size(), 20U);
}

TEST_F(BalloonctlTest, SetPinsAGuestForATimeAndAutoEndsIt) {
  const Outcome set = ctl({"set", "web-1", "1536MiB", "--for", "5m"});
  EXPECT_EQ(set.exit_code, 0) << set.err;
  EXPECT_TRUE(set.out.starts_with("web-1 is pinned at 1.50 GiB until 20")) << set.out;
  ASSERT_TRUE(eventually([&] { return vmm_->actual() == 1536 * kMiB; })) << ctl({"explain", "web-1"}).out;
  ASSERT_TRUE(eventually([&] { return state_of("web-1") == "pinned"; }));
  EXPECT_FALSE(ctl_json({"show", "web-1"}).at("pinned_until").is_null());
  EXPECT_TRUE(logs("pinned at 1.50 GiB for 300 s by uid " + std::to_string(::getuid())));

  EXPECT_EQ(ctl({"set", "web-1", "auto"}).exit_code, 0);
  ASSERT_TRUE(eventually([&] { return ctl_json({"show", "web-1"}).at("pinned_until").is_null(); }));
}

TEST_F(BalloonctlTest, MergeTurnsKsmOnAndOffThroughTheGuestsVmm) {
  EXPECT_NE(ctl({"show", "web-1"}).out.find("its VMM does not say"), std::string::npos);
  const Outcome on = ctl({"merge", "web-1", "on"});
  EXPECT_EQ(on.exit_code, 0) << on.err;
  EXPECT_TRUE(on.out.starts_with("the VMM of web-1 is asked to turn KSM on")) << on.out;
  ASSERT_TRUE(eventually([&] { return ctl_json({"show", "web-1"}).at("merging") == true; }));
  EXPECT_EQ(ctl({"merge", "web-1", "off"}).exit_code, 0);
  ASSERT_TRUE(eventually([&] { return ctl_json({"show", "web-1"}).at("merging") == false; }));
  EXPECT_EQ(ctl({"merge", "nobody", "on"}).exit_code, 3);
  EXPECT_EQ(ctl({"merge", "web-1", "perhaps"}).exit_code, 2);
}

TEST_F(BalloonctlTest, APinRunsOut) {
  ASSERT_EQ(ctl({"set", "web-1", "1536MiB", "--for", "5s"}).exit_code, 0);
  ASSERT_TRUE(eventually([&] { return state_of("web-1") == "pinned"; }));
  ASSERT_TRUE(eventually([&] { return state_of("web-1") == "stale"; }));
  EXPECT_TRUE(ctl_json({"show", "web-1"}).at("pinned_until").is_null());
}

TEST_F(BalloonctlTest, RefusalsSayWhyAndExitWith4) {
  const Outcome below = ctl({"set", "web-1", "100MiB"});
  EXPECT_EQ(below.exit_code, 4);
  EXPECT_EQ(below.err, "balloonctl: 100 MiB is below web-1's guaranteed minimum, 360 MiB\n");
  const Outcome above = ctl({"set", "web-1", "3GiB"});
  EXPECT_EQ(above.exit_code, 4);
  EXPECT_EQ(above.err, "balloonctl: 3 GiB is above web-1's boot memory, 2 GiB\n");
}

TEST_F(BalloonctlTest, ForProgramsRefusalsAreJson) {
  const Outcome below = ctl({"set", "web-1", "100MiB", "-o", "json"});
  EXPECT_EQ(below.exit_code, 4);
  EXPECT_EQ(below.out, "");
  const auto error = nlohmann::json::parse(below.err).at("error");
  EXPECT_EQ(error.at("code"), 4);
  EXPECT_EQ(error.at("kind"), "refused");
  EXPECT_EQ(error.at("message"), "100 MiB is below web-1's guaranteed minimum, 360 MiB");
  EXPECT_EQ(nlohmann::json::parse(ctl({"show", "nobody", "-o", "json"}).err).at("error").at("code"), 3);
}

TEST_F(BalloonctlTest, AnAnswerThatCannotBeWrittenIsAFailure) {
  for (const std::string& words :
       std::vector<std::string>{"list", "list -o json", "host", "--help", "--version", "host check",
                                "watch --count 1", "policy check " + directory_.file("policy.yaml")}) {
    const Outcome outcome = run(
        {"/bin/sh", "-c", std::string(BALLOONCTL) + " --socket " + socket() + " " + words + " >/dev/full"});
    EXPECT_EQ(outcome.exit_code, 1) << words;
    EXPECT_NE(outcome.err.find("standard output cannot be written: No space left on device"),
              std::string::npos)
        << words << ": " << outcome.err;
  }
  EXPECT_EQ(run({"/bin/sh", "-c", std::string(BALLOONCTL) + " --socket " + socket() + " list >&-"}).exit_code,
            1);
  for (const char* const command : {BALLOON_SIM " list", BALLOON_SIM " --version", BALLOOND " --version"}) {
    const Outcome outcome = run({"/bin/sh", "-c", command + std::string(" >/dev/full")});
    EXPECT_EQ(outcome.exit_code, 1) << command;
    EXPECT_TRUE(outcome.err.ends_with(": standard output cannot be written: No space left on device\n"))
        << outcome.err;
    EXPECT_EQ(std::ranges::count(outcome.err, '\n'), 1) << "told once: " << outcome.err;
  }
}

TEST_F(BalloonctlTest, AReservationForAGuestThatRunsIsRefusedWithWhatHelps) {
  const Outcome outcome = ctl({"reserve", "web-1", "1GiB"});
  EXPECT_EQ(outcome.exit_code, 4);
  EXPECT_NE(outcome.err.find("a guest named 'web-1' is there already"), std::string::npos) << outcome.err;
}

TEST_F(BalloonctlTest, ToPinAGuestWithoutADriverSaysWhenItWillHold) {
  auto registration = FakeVmm::guest("bare", 2 * kGiB, 2 * kGiB);
  registration.mutable_balloon()->set_driver_ready(false);
  const FakeVmm bare(socket(), registration);
  ASSERT_TRUE(eventually([&] { return state_of("bare") == "booting"; }));
  const Outcome outcome = ctl({"set", "bare", "1GiB"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("\nits balloon driver is not up yet: its size changes once it is\n"),
            std::string::npos)
      << outcome.out;
}

TEST_F(BalloonctlTest, AGuestThatItsMonitorStoppedIsShownAsPaused) {
  vmm_->set_paused(true);
  ASSERT_TRUE(eventually([&] { return ctl_json({"show", "web-1"}).at("paused") == true; }));
  EXPECT_NE(ctl({"list"}).out.find("web-1  paused"), std::string::npos) << ctl({"list"}).out;
  EXPECT_NE(ctl({"show", "web-1"}).out.find("it does not run: paused"), std::string::npos);
  const Outcome set = ctl({"set", "web-1", "1GiB"});
  EXPECT_NE(set.out.find("its balloon is left alone for now: it does not run: paused"), std::string::npos)
      << set.out;
  vmm_->set_paused(false);
  ASSERT_TRUE(eventually([&] { return ctl_json({"show", "web-1"}).at("paused") == false; }));
}

TEST_F(BalloonctlTest, AHostThatCannotKeepItsPromisesSaysWhose) {
  write_policy("defaults: {min: 100%}\n");
  daemon_->signal(SIGHUP);
  const std::uint64_t huge = ctl_json({"host"}).at("total_bytes").get<std::uint64_t>() / 4096 * 4096;
  const FakeVmm big(socket(), FakeVmm::guest("big", huge, huge));
  ASSERT_TRUE(eventually([&] { return ctl_json({"host"}).at("state") == "infeasible"; }))
      << ctl({"host"}).out;
  const std::string why = ctl_json({"host"}).at("explanation");
  EXPECT_TRUE(why.starts_with("the guaranteed minimums of 2 guests")) << why;
  EXPECT_NE(why.find("The largest: big ("), std::string::npos) << why;
  EXPECT_NE(ctl({"host"}).out.find("Why:          the guaranteed minimums of 2 guests"), std::string::npos)
      << ctl({"host"}).out;
}

TEST_F(BalloonctlTest, WideShowsWhatTheTableLeavesOutAndHeadingsCanGo) {
  const Outcome wide = ctl({"list", "-o", "wide"});
  EXPECT_NE(wide.out.find("HYPERVISOR"), std::string::npos) << wide.out;
  EXPECT_NE(wide.out.find("balloon-vmm"), std::string::npos) << wide.out;
  EXPECT_TRUE(ctl({"list", "--no-headings"}).out.starts_with("web-1  stale"));
}

TEST_F(BalloonctlTest, ControlCanBePausedForATimeAndResumed) {
  const Outcome paused = ctl({"pause", "--for", "1h"});
  EXPECT_EQ(paused.exit_code, 0) << paused.err;
  EXPECT_TRUE(paused.out.starts_with("balloons stay as they are: paused by uid ")) << paused.out;
  EXPECT_NE(ctl_json({"host"}).at("not_applied"), "") << "at once, whenever the next decision is";
  const std::size_t asked = vmm_->targets().size();
  ASSERT_EQ(ctl({"set", "web-1", "1536MiB"}).exit_code, 0);
  ASSERT_TRUE(eventually([&] { return state_of("web-1") == "pinned"; }));
  EXPECT_EQ(vmm_->targets().size(), asked) << "the pin is decided, not applied";
  EXPECT_NE(ctl({"host"}).out.find("nothing is applied: paused by uid"), std::string::npos);
  EXPECT_EQ(ctl({"resume"}).out, "decisions are applied\n");
  EXPECT_TRUE(eventually([&] { return vmm_->actual() == 1536 * kMiB; }));
  EXPECT_EQ(ctl({"pause", "--for", "25h"}).exit_code, 2);
}

TEST_F(BalloonctlTest, ADryRunMovesNoBalloon) {
  vmm_.reset();
  daemon_.reset();
  daemon_ = std::make_unique<Background>(
      std::vector<std::string>{BALLOOND, "--config", directory_.file("balloond.yaml"), "--dry-run"},
      directory_.file("log"));
  ASSERT_TRUE(eventually([&] { return ctl({"host"}).exit_code == 0; })) << daemon_->log();
  FakeVmm idle(socket(), FakeVmm::guest("idle", 2 * kGiB, 2 * kGiB));
  ASSERT_TRUE(eventually([&] {
    idle.send_stats(300 * kMiB);
    const auto guests = ctl_json({"list"}).at("guests");
    return guests.size() == 1 && guests.at(0).at("decision").at("target_bytes") < 2 * kGiB;
  })) << ctl({"explain", "idle"}).out;
  EXPECT_TRUE(idle.targets().empty());
  EXPECT_EQ(ctl_json({"host"}).at("not_applied"), "dry run");
  daemon_->signal(SIGHUP);
  ASSERT_TRUE(eventually([&] { return daemon_->log().contains("the new configuration is in force"); }));
  EXPECT_EQ(ctl_json({"host"}).at("not_applied"), "dry run") << "a reload does not end it";
}

TEST_F(BalloonctlTest, EveryProgramTellsItsVersion) {
  for (const char* const program : {BALLOONCTL, BALLOOND, BALLOON_SIM}) {
    const Outcome outcome = run({program, "--version"});
    EXPECT_EQ(outcome.exit_code, 0) << program << ": " << outcome.err;
    EXPECT_TRUE(outcome.out.starts_with("balloon")) << outcome.out;
    const Outcome unknown = run({program, "--confg", "x"});
    EXPECT_EQ(unknown.exit_code, 2);
    EXPECT_NE(unknown.err.find("unknown option '--confg'"), std::string::npos) << unknown.err;
  }
}

TEST_F(BalloonctlTest, AHostThatCannotFreeThatMuchRefuses) {
  const std::uint64_t huge = ctl_json({"host"}).at("total_bytes").get<std::uint64_t>() / 4096 * 4096;
  FakeVmm big(socket(), FakeVmm::guest("big", huge, kGiB));
  ASSERT_TRUE(eventually([&] { return !state_of("big").empty(); }));
  const Outcome outcome = ctl({"set", "big", std::to_string(huge >> 20) + "MiB"});
  EXPECT_EQ(outcome.exit_code, 4);
  EXPECT_NE(outcome.err.find("the host cannot free that much"), std::string::npos) << outcome.err;
}

TEST_F(BalloonctlTest, AGuestThatDoesNotExistExitsWith3) {
  for (const auto& command : std::vector<std::vector<std::string>>{
           {"show", "nobody"}, {"explain", "nobody"}, {"set", "nobody", "1GiB"}, {"set", "nobody", "auto"}}) {
    const Outcome outcome = ctl(command);
    EXPECT_EQ(outcome.exit_code, 3) << command[0];
    EXPECT_EQ(outcome.err, "balloonctl: there is no guest named 'nobody'\n");
  }
}

TEST_F(BalloonctlTest, WrongUseExitsWith2) {
  for (const auto& command : std::vector<std::vector<std::string>>{{},
                                                                   {"lst"},
                                                                   {"show"},
                                                                   {"set", "web-1", "12"},
                                                                   {"set", "web-1", "1GiB", "--for", "10"},
                                                                   {"set", "web-1", "1GiB", "--for", "25h"},
                                                                   {"set", "web-1", "auto", "--for", "5m"},
                                                                   {"list", "-o", "xml"}}) {
    EXPECT_EQ(ctl(command).exit_code, 2);
  }
  EXPECT_EQ(ctl({"--help"}).exit_code, 0);
  EXPECT_NE(ctl({"--help"}).out.find("5 daemon not reachable"), std::string::npos);
  EXPECT_EQ(ctl({"--version"}).exit_code, 0);
}

TEST_F(BalloonctlTest, PolicyDiffSaysWhatChangesForTheRunningGuests) {
  const std::string before = directory_.write("old.yaml", "guests: [{name: \"web-*\", min: 1GiB}]\n");
  const std::string after =
      directory_.write("new.yaml", "guests: [{name: \"web-*\", min: 1GiB, weight: 7}]\n");
  const Outcome same = ctl({"policy", "diff", before, before});
  EXPECT_EQ(same.exit_code, 0) << same.err;
  EXPECT_EQ(same.out, "");
  const Outcome text = ctl({"policy", "diff", before, after});
  EXPECT_EQ(text.exit_code, 1);
  EXPECT_EQ(text.out,
            "GUEST  VALUE   OLD  NEW\nweb-1  weight  100  7\n\nRULE                  OLD  NEW\n"
            "guests[web-*].weight  -    7\n");
  const Outcome json = ctl({"policy", "diff", before, after, "-o", "json"});
  EXPECT_EQ(nlohmann::json::parse(json.out).at("guests").at(0).at("guest"), "web-1");
}

TEST_F(BalloonctlTest, PolicyCommandsNeedNoDaemon) {
  const std::string good = directory_.write("good.yaml", "defaults: {weight: 7}\n");
  const std::string bad = directory_.write("bad.yaml", "defaults: {wieght: 7}\n");
  const std::vector<std::string> nobody{"BALLOOND_SOCKET=" + directory_.file("nothing")};
  EXPECT_EQ(run({BALLOONCTL, "policy", "check", good}, nobody).exit_code, 0);
  const Outcome refused = run({BALLOONCTL, "policy", "check", bad}, nobody);
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_EQ(refused.err, bad + ":1:12: defaults.wieght: unknown key; did you mean 'weight'?\n");
  const Outcome shown =
      run({BALLOONCTL, "policy", "show", "--labels", "a=b,c=d", "--guest", "x", good}, nobody);
  EXPECT_EQ(shown.exit_code, 0) << shown.err;
  const Outcome diff = run({BALLOONCTL, "policy", "diff", good, good}, nobody);
  EXPECT_EQ(diff.exit_code, 0);
  EXPECT_EQ(diff.err, "no daemon answers: the policies are compared by their rules alone\n");
  EXPECT_EQ(run({BALLOONCTL, "policy", "diff", good, bad}, nobody).exit_code, 1);
  EXPECT_EQ(run({BALLOONCTL, "policy", "show", good}, nobody).exit_code, 2);
  EXPECT_EQ(run({BALLOONCTL, "policy", "show", good, "--guest", "x", "--at", "noon"}, nobody).exit_code, 2);
}

TEST_F(BalloonctlTest, ADaemonThatIsNotThereExitsWith5) {
  const Outcome outcome = run({BALLOONCTL, "list"}, {"BALLOOND_SOCKET=" + directory_.file("nothing")});
  EXPECT_EQ(outcome.exit_code, 5);
  EXPECT_NE(outcome.err.find("no daemon can be reached at " + directory_.file("nothing")), std::string::npos)
      << outcome.err;
}

TEST_F(BalloonctlTest, WatchPrintsOneJsonObjectALine) {
  const Outcome outcome = ctl({"watch", "-o", "json", "--count", "3"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  std::istringstream lines(outcome.out);
  std::string line;
  std::uint64_t revision = 0;
  int count = 0;
  while (std::getline(lines, line)) {
    const auto json = nlohmann::json::parse(line);
    EXPECT_GT(json.at("revision"), revision);
    revision = json.at("revision");
    EXPECT_EQ(json.at("guests").at(0).at("name"), "web-1");
    EXPECT_TRUE(json.at("host").contains("budget_bytes"));
    ++count;
  }
  EXPECT_EQ(count, 3);
}

}  // namespace
}  // namespace balloon::test
