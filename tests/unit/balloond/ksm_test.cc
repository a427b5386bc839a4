// SPDX-License-Identifier: Apache-2.0
// KSM from /sys to the plan and back, on a fake host.
#include <gtest/gtest.h>

#include "balloond/api/convert.h"
#include "balloond/control/tick.h"
#include "balloond/host/ksm_control.h"
#include "balloond/host/ksm_sampler.h"
#include "tests/unit/balloond/fakes.h"

namespace balloon::daemon {
namespace {

using test::kGiB;
using test::kMiB;

/// The files of KSM: what the kernel shows, and what was written.
class KsmFiles {
 public:
  KsmFiles() { tree_.ksm(); }
  const std::string& root() const { return tree_.root(); }
  const test::FakeTree& tree() const { return tree_; }
  std::filesystem::path path(const std::string& file) const {
    return tree_.root() + "/sys/kernel/mm/ksm/" + file;
  }
  void set(const std::string& file, const std::string& text) const {
    tree_.write("/sys/kernel/mm/ksm/" + file, text);
  }
  std::string get(const std::string& file) const {
    std::string line;
    std::ifstream in(path(file));
    std::getline(in, line);
    return line;
  }
  /// In place of a file that refuses writes: root may write to whatever there is, but not to a directory.
  void refuse(const std::string& file) const {
    std::filesystem::remove(path(file));
    std::filesystem::create_directory(path(file));
  }
  void accept(const std::string& file, const std::string& text) const {
    std::filesystem::remove(path(file));
    set(file, text);
  }
  /// From now on nothing can be written unnoticed: the files' times are those of long ago.
  void age() const {
    for (const auto& file : std::filesystem::directory_iterator(path("")))
      std::filesystem::last_write_time(file, std::filesystem::file_time_type(std::chrono::seconds(0)));
  }
  bool written(const std::string& file) const {
    return std::filesystem::last_write_time(path(file)) !=
           std::filesystem::file_time_type(std::chrono::seconds(0));
  }

 private:
  test::FakeTree tree_;
};

class KsmSamplerTest : public ::testing::Test {
 protected:
  std::optional<policy::KsmSnapshot> sample() {
    const KsmSampler sampler(files_.root());
    return sampler.sample(buffer_, figures_);
  }
  KsmFiles files_;
  ReadBuffer buffer_{};
  KsmFigures figures_;
};

TEST_F(KsmSamplerTest, ReadsWhatTheKernelSaysInBytes) {
  files_.set("run", "1\n");
  files_.set("pages_shared", "10\n");
  files_.set("pages_sharing", "70\n");
  files_.set("pages_unshared", "500\n");
  files_.set("pages_volatile", "3\n");
  files_.set("full_scans", "9\n");
  files_.set("pages_to_scan", "1250\n");
  files_.set("sleep_millisecs", "10\n");
  files_.set("general_profit", "-4096\n");
  const auto ksm = sample();
  ASSERT_TRUE(ksm);
  EXPECT_TRUE(ksm->running);
  EXPECT_EQ(ksm->shared, 10 * page_size());
  EXPECT_EQ(ksm->sharing, 70 * page_size());
  EXPECT_EQ(ksm->unshared, 500 * page_size());
  EXPECT_EQ(ksm->pages_to_scan, 1250U);
  EXPECT_EQ(ksm->sleep, std::chrono::milliseconds(10));
  EXPECT_FALSE(ksm->controllable) << "that is not the kernel's to say";
  EXPECT_EQ(figures_.changing, 3 * page_size());
  EXPECT_EQ(figures_.full_scans, 9U);
  EXPECT_EQ(figures_.profit, -4096) << "bookkeeping that costs more than it saves";
  EXPECT_FALSE(figures_.unmerging);
}

TEST_F(KsmSamplerTest, KnowsNoProfitWhereTheKernelDoesNotSay) {
  ASSERT_TRUE(sample());
  EXPECT_FALSE(figures_.profit);
}

TEST_F(KsmSamplerTest, SeesSomebodyUnmerge) {
  files_.set("run", "2\n");
  EXPECT_FALSE(sample()->running);
  EXPECT_TRUE(figures_.unmerging);
}

TEST_F(KsmSamplerTest, ThereIsNothingOnAHostWithoutIt) {
  const test::FakeTree bare;
  EXPECT_FALSE(KsmSampler(bare.root()).sample(buffer_, figures_));
}

TEST_F(KsmSamplerTest, TextThatIsNoNumberIsNothing) {
  files_.set("pages_sharing", "many\n");
  EXPECT_EQ(sample()->sharing, Bytes{0});
  files_.set("run", "\n");
  EXPECT_FALSE(sample());
}

class KsmControlTest : public ::testing::Test {
 protected:
  static policy::KsmPlan plan(bool run, std::uint64_t pages = 128) {
    return {.run = run, .pages_to_scan = pages, .sleep = std::chrono::milliseconds(20)};
  }
  void apply(const policy::KsmPlan& plan) {
    ReadBuffer buffer{};
    KsmFigures figures;
    const auto now = KsmSampler(files_.root()).sample(buffer, figures);
    control_.apply(plan, now.value_or(policy::KsmSnapshot{}));
  }
  KsmFiles files_;
  KsmControl control_{files_.root()};
};

TEST_F(KsmControlTest, StartsKsmAsHardAsPlanned) {
  apply(plan(true));
  EXPECT_EQ(files_.get("run"), "1");
  EXPECT_EQ(files_.get("pages_to_scan"), "128");
  EXPECT_EQ(files_.get("sleep_millisecs"), "20");
}

TEST_F(KsmControlTest, WritesOnlyWhatChanges) {
  files_.age();
  apply(plan(true));
  EXPECT_FALSE(files_.written("sleep_millisecs")) << "it was so";
  files_.age();
  apply(plan(true));
  for (const char* file : {"run", "pages_to_scan", "sleep_millisecs"})
    EXPECT_FALSE(files_.written(file)) << file;
  apply(plan(true, 192));
  EXPECT_EQ(files_.get("pages_to_scan"), "192");
  EXPECT_FALSE(files_.written("run"));
}

TEST_F(KsmControlTest, StopsWithoutUnmergingAndLeavesTheOtherSettings) {
  apply(plan(true, 256));
  apply(plan(false, 64));
  EXPECT_EQ(files_.get("run"), "0");
  EXPECT_EQ(files_.get("pages_to_scan"), "256");
}

TEST_F(KsmControlTest, SetsAgainWhatSomebodyElseChanged) {
  apply(plan(true));
  files_.set("pages_to_scan", "64\n");
  apply(plan(true));
  EXPECT_EQ(files_.get("pages_to_scan"), "128");
}

/// ksmtuned is a script of bash: its process has the script's name.
TEST_F(KsmControlTest, LeavesKsmAloneWhileAManagerOfItRuns) {
  files_.tree().write("/proc/812/comm", "ksmtuned\n");
  EXPECT_FALSE(control_.works()) << "it ran before balloond did";
  std::filesystem::remove_all(files_.root() + "/proc/812");
  int ticks = 1;
  while (!control_.works() && ticks < 100) ++ticks;
  EXPECT_EQ(ticks, 60) << "looked for again once a minute";
  apply(plan(true));
  EXPECT_EQ(files_.get("run"), "1");
}

TEST_F(KsmControlTest, AManagerThatStartsLaterIsLeftToItsWork) {
  EXPECT_TRUE(control_.works());
  apply(plan(true));
  files_.tree().write("/proc/812/comm", "momd\n");
  files_.set("pages_to_scan", "64\n");
  apply(plan(true));
  EXPECT_EQ(files_.get("pages_to_scan"), "64");
  EXPECT_FALSE(control_.works());
}

TEST_F(KsmControlTest, GivesUpOnARefusedWriteUntilThePolicyComesAnew) {
  files_.refuse("pages_to_scan");
  apply(plan(true));
  EXPECT_FALSE(control_.works());
  EXPECT_EQ(files_.get("run"), "0") << "not with other settings than planned";
  files_.accept("pages_to_scan", "100\n");
  apply(plan(true));
  EXPECT_EQ(files_.get("run"), "0");
  control_.begin_anew();
  EXPECT_TRUE(control_.works());
  apply(plan(true));
  EXPECT_EQ(files_.get("run"), "1");
}

TEST_F(KsmControlTest, ARefusalIsSaidOnceWithWhatToDo) {
  files_.refuse("run");
  testing::internal::CaptureStdout();
  apply(plan(true));
  apply(plan(true));
  const std::string said = testing::internal::GetCapturedStdout();
  const auto first =
      said.find("KSM stays as it is until the configuration is loaded again: cannot write 1 to ");
  ASSERT_NE(first, std::string::npos) << said;
  EXPECT_NE(said.find("let balloond run as root with a writable /sys; or say ksm: off under host"),
            std::string::npos)
      << said;
  EXPECT_EQ(said.find("KSM stays", first + 1), std::string::npos) << said;
}

/// A ticker on a host of 8 GiB with one guest of 2 GiB, and a policy that runs KSM in every state.
class KsmTickTest : public ::testing::Test {
 protected:
  KsmTickTest() {
    files_.tree().host("8388608", "7340032");
    files_.tree().process(kPid, "1048576");
    host_.emplace(files_.root());
    const auto session =
        guests_.joined(test::registration("a", 2 * kGiB, kGiB), {.pid = kPid, .uid = 0}, channel_);
    EXPECT_TRUE(session);
    session_ = session.value_or(Session{});
  }
  static policy::rules::PolicyFile policy(bool ksm) {
    policy::rules::PolicyFile out;
    out.ksm = ksm;
    out.tunables.actions.normal.ksm = true;
    return out;
  }
  void begin(const policy::rules::PolicyFile& policy) {
    ticker_.emplace(clock_, guests_, *host_, states_, policy, nullptr, nullptr, &control_);
  }
  void tick() {
    clock_.advance(std::chrono::seconds(1));
    ticker_->tick();
  }
  /// As sampled by the newest tick.
  policy::KsmSnapshot seen() const {
    return states_.newest()->host.memory.ksm.value_or(policy::KsmSnapshot{});
  }
  void vmm_says(bool merging) {
    guests_.set_merging("a", merging);
    guests_.answered(session_, Request::Kind::merging, channel_->merging_asked.back().first, "");
  }

  static constexpr int kPid = 100;
  KsmFiles files_;
  test::FakeClock clock_;
  Registry guests_{clock_, files_.root()};
  std::shared_ptr<test::FakeChannel> channel_ = std::make_shared<test::FakeChannel>();
  Session session_{};
  std::optional<HostSampler> host_;
  StateStore states_;
  KsmControl control_{files_.root()};
  std::optional<Ticker> ticker_;
};

TEST_F(KsmTickTest, APlansKsmReachesTheKernelAndTheNextSnapshotHasIt) {
  begin(policy(true));
  tick();
  EXPECT_EQ(files_.get("run"), "1");
  EXPECT_EQ(files_.get("pages_to_scan"), "64") << "1 GiB is 262144 pages: in 200 s that is 27 every 20 ms";
  EXPECT_FALSE(seen().running);
  files_.set("pages_sharing", "1000\n");
  files_.age();
  tick();
  EXPECT_TRUE(seen().running && seen().controllable);
  EXPECT_EQ(seen().pages_to_scan, 64U);
  EXPECT_EQ(seen().sharing, 1000 * page_size());
  for (const char* file : {"run", "pages_to_scan", "sleep_millisecs"})
    EXPECT_FALSE(files_.written(file)) << file;
}

TEST_F(KsmTickTest, ByDefaultKsmIsLeftAloneAndWhatItSavesIsCountedOnce) {
  begin(policy::rules::PolicyFile());
  tick();
  const policy::Bytes without = states_.newest()->budget;
  files_.set("run", "1\n");
  files_.set("pages_sharing", std::to_string(512 * kMiB / page_size()) + "\n");
  files_.age();
  begin(policy::rules::PolicyFile());
  tick();
  EXPECT_FALSE(files_.written("run") || files_.written("pages_to_scan"));
  EXPECT_FALSE(seen().controllable);
  EXPECT_EQ(states_.newest()->budget, without - 256 * kMiB)
      << "resident twice, there once, and half of it lent";
}

TEST_F(KsmTickTest, TheEngineIsToldWhenTheKernelRefuses) {
  files_.refuse("pages_to_scan");
  begin(policy(true));
  tick();
  EXPECT_TRUE(seen().controllable) << "nothing was known yet";
  tick();
  EXPECT_FALSE(seen().controllable);
  files_.accept("pages_to_scan", "100\n");
  ticker_->set_policy(policy(true));
  tick();
  EXPECT_TRUE(seen().controllable) << "a new policy tries again";
  EXPECT_EQ(files_.get("run"), "1");
}

TEST_F(KsmTickTest, SomebodyWhoUnmergesIsNotInterrupted) {
  files_.set("run", "2\n");
  begin(policy(true));
  tick();
  EXPECT_FALSE(seen().controllable);
  EXPECT_EQ(files_.get("run"), "2");
  files_.set("run", "0\n");
  tick();
  EXPECT_EQ(files_.get("run"), "1");
}

TEST_F(KsmTickTest, CallersAreShownWhatTheKernelSays) {
  files_.set("run", "1\n");
  files_.set("pages_sharing", "70\n");
  files_.set("general_profit", "-5\n");
  host_.emplace(files_.root());
  begin(policy(true));
  tick();
  const v1::Host shown = host_to_proto(*states_.newest());
  EXPECT_EQ(shown.ksm_saved_bytes(), (70 * page_size()).count());
  EXPECT_TRUE(shown.ksm().running() && shown.ksm().controllable());
  EXPECT_EQ(shown.ksm().pages_to_scan(), 100U);
  EXPECT_EQ(shown.ksm().sleep().nanos(), 20'000'000);
  EXPECT_EQ(shown.ksm().profit_bytes(), -5);
}

TEST_F(KsmTickTest, AHostWithoutKsmIsDecidedForWithoutIt) {
  std::filesystem::remove_all(files_.path(""));
  host_.emplace(files_.root());
  begin(policy(true));
  tick();
  EXPECT_FALSE(states_.newest()->host.memory.ksm);
  EXPECT_FALSE(host_to_proto(*states_.newest()).has_ksm());
  EXPECT_EQ(states_.newest()->guests.size(), 1U);
}

TEST_F(KsmTickTest, PolicyThatHandsKsmBackLeavesItRunning) {
  begin(policy(true));
  tick();
  ticker_->set_policy(policy(false));
  for (int i = 0; i < 3; ++i) tick();
  EXPECT_EQ(files_.get("run"), "1");
  EXPECT_FALSE(seen().controllable);
}

TEST_F(KsmTickTest, StopsWhenTheLastGuestIsTakenOut) {
  begin(policy(true));
  tick();
  ASSERT_EQ(files_.get("run"), "1") << "its VMM does not say whether it takes part";
  vmm_says(false);
  tick();
  EXPECT_EQ(files_.get("run"), "0");
  vmm_says(true);
  tick();
  EXPECT_EQ(files_.get("run"), "1");
}

TEST_F(KsmTickTest, AnEndOfTheDaemonLeavesEverythingAsItIs) {
  begin(policy(true));
  tick();
  files_.age();
  ticker_.reset();
  for (const char* file : {"run", "pages_to_scan", "sleep_millisecs"})
    EXPECT_FALSE(files_.written(file)) << file;
}

}  // namespace
}  // namespace balloon::daemon
