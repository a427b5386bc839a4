// SPDX-License-Identifier: Apache-2.0
#include "balloond/journal/journal.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <random>
#include <thread>

#include "balloond/control/tick.h"
#include "base/pages.h"
#include "policy/sim/replay.h"
#include "tests/unit/balloond/fakes.h"

namespace balloon::daemon {
namespace {

namespace fs = std::filesystem;
using test::kGiB;
using test::kMiB;

/// The real tick, journal and replay around guests that do anything.
class JournalTest : public ::testing::Test {
 protected:
  struct FakeGuest {
    std::string name;
    int pid = 0;
    Session session = 0;
    policy::Bytes memory{};
    policy::Bytes actual{};
    std::uint64_t counter = 0;
    std::shared_ptr<test::FakeChannel> channel = std::make_shared<test::FakeChannel>();
    std::size_t answered = 0;
  };

  JournalTest() { tree_.host("8388608", "7340032"); }

  std::string directory() const { return tree_.root() + "/state/journal"; }

  void start(Bytes file_size = 64 * kMiB, Bytes total_size = kGiB,
             const policy::rules::PolicyFile& policy = {}) {
    stop();
    journal_ = std::make_unique<Journal>(
        clock_, JournalConfig{.directory = directory(), .file_size = file_size, .total_size = total_size});
    guests_ = std::make_unique<Registry>(clock_, tree_.root());
    ticker_ =
        std::make_unique<Ticker>(clock_, *guests_, host_, states_, policy, journal_.get(), nullptr, &ksm_);
    for (FakeGuest& guest : fakes_) join(guest);
  }
  /// What waits is written.
  void stop() {
    ticker_.reset();
    journal_.reset();
  }

  void join(FakeGuest& guest) {
    tree_.process(guest.pid, std::to_string(guest.actual / kKiB));
    guest.channel = std::make_shared<test::FakeChannel>();
    guest.answered = 0;
    Registration registration = test::registration(guest.name, guest.memory, guest.actual);
    if (guest.pid % 2 == 0) registration.labels["tier"] = guest.pid % 3 == 0 ? "db" : "web";
    if (guest.pid % 5 == 0) registration.merging = guest.pid % 2 == 0;
    guest.session = guests_->joined(registration, {.pid = guest.pid, .uid = 0}, guest.channel).value_or(0);
  }
  void add_guest() {
    FakeGuest guest;
    guest.pid = 100 + next_pid_++;
    guest.name = "g" + std::to_string(guest.pid);
    guest.memory = (1 + random_() % 4) * 512 * kMiB;
    guest.actual = guest.memory;
    join(guest);
    fakes_.push_back(guest);
  }
  void remove_guest(std::size_t index) {
    guests_->left(fakes_[index].session);
    if (one_in(2)) tree_.end_process(fakes_[index].pid);
    fakes_.erase(fakes_.begin() + static_cast<long>(index));
  }
  void live(FakeGuest& guest) {
    for (; guest.answered < guest.channel->asked.size(); ++guest.answered)
      guests_->answered(guest.session, Request::Kind::target, guest.channel->asked[guest.answered].sequence,
                        "");
    if (!guest.channel->asked.empty() && !one_in(4)) guest.actual = guest.channel->asked.back().target;
    guests_->balloon(guest.session, *test::registration(guest.name, guest.memory, guest.actual).balloon);
    if (one_in(5)) return;
    StatsSample stats =
        test::sample(guest.memory, guest.actual, random_() % (guest.actual / kPageSize) * kPageSize);
    stats.major_faults = guest.counter += random_() % 50;
    stats.swap_in = one_in(300) ? Bytes{random_()} : guest.counter * kPageSize;
    if (one_in(20)) stats.available = Bytes::max();
    guests_->stats(guest.session, stats);
  }
  void tick() {
    if (fakes_.size() < 3 || (one_in(40) && fakes_.size() < 12)) add_guest();
    if (one_in(60) && fakes_.size() > 2) remove_guest(random_() % fakes_.size());
    for (FakeGuest& guest : fakes_) live(guest);
    if (one_in(50))
      guests_->set_pin(fakes_.front().name, Bytes{random_()} % (2 * kGiB), std::chrono::seconds(5));
    if (one_in(20)) tree_.host("8388608", std::to_string(random_() % 8'000'000));
    if (one_in(20))
      tree_.write("/sys/kernel/mm/ksm/pages_sharing", std::to_string(random_() % 300'000) + "\n");
    if (one_in(100)) tree_.write("/sys/kernel/mm/ksm/run", std::to_string(random_() % 3) + "\n");
    clock_.advance(std::chrono::milliseconds(10 + random_() % 1200));
    ticker_->tick();
    const policy::KsmSnapshot& ksm = *states_.newest()->host.memory.ksm;
    if (ksm.running && ksm.controllable) ++ticks_with_ksm_;
  }
  void reload() {
    policy::rules::PolicyFile policy;
    policy.ksm = !one_in(4);
    policy.tunables.hold = std::chrono::seconds(random_() % 30);
    policy.tunables.margin_ratio = static_cast<double>(random_() % 50) / 100;
    policy.defaults.values.min = policy::rules::SizeRule{.bytes = (64 + random_() % 512) * kMiB};
    ticker_->set_policy(policy);
  }
  bool one_in(std::uint64_t n) { return random_() % n == 0; }

  std::vector<fs::path> files() const {
    std::vector<fs::path> out;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(directory(), error)) out.push_back(entry.path());
    std::ranges::sort(out);
    return out;
  }
  policy::sim::ReplayReport replay() const {
    auto report = policy::sim::replay(directory(), {}, {});
    EXPECT_TRUE(report) << report.error().message;
    return report.value_or(policy::sim::ReplayReport{});
  }
  bool eventually(const auto& condition) const {
    for (int i = 0; i < 1000; ++i) {
      if (condition()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }

  std::mt19937_64 random_{7};
  test::FakeTree tree_;
  test::FakeClock clock_;
  StateStore states_;
  HostSampler host_ = [this] {
    tree_.host("8388608", "7340032");
    tree_.ksm();
    return HostSampler(tree_.root());
  }();
  KsmControl ksm_{tree_.root()};
  std::vector<FakeGuest> fakes_;
  int next_pid_ = 0;
  int ticks_with_ksm_ = 0;
  std::unique_ptr<Registry> guests_;
  std::unique_ptr<Journal> journal_;
  std::unique_ptr<Ticker> ticker_;
};

TEST_F(JournalTest, WhatTheDaemonDecidedReplaysToIdenticalPlansThroughReloadsAndRestarts) {
  for (int run = 0; run < 3; ++run) {
    start();
    for (int i = 0; i < 1000; ++i) {
      if (one_in(100)) reload();
      tick();
    }
  }
  stop();
  const auto report = replay();
  EXPECT_EQ(report.ticks, 3000U);
  EXPECT_EQ(report.runs, 3U);
  EXPECT_EQ(report.different, 0U) << policy::sim::to_table(report);
  EXPECT_EQ(report.warm_up, 0U);
  EXPECT_GT(ticks_with_ksm_, 100) << "KSM is a part of it";
}

TEST_F(JournalTest, TheFirstRecordingBeginsWithWhatTheLawIsTunedByAtTheStart) {
  policy::rules::PolicyFile policy;
  policy.tunables.margin_ratio = 0.4;
  start(64 * kMiB, kGiB, policy);
  for (int i = 0; i < 100; ++i) tick();
  stop();
  const auto report = replay();
  EXPECT_EQ(report.ticks, 100U);
  EXPECT_EQ(report.different, 0U) << policy::sim::to_table(report);
}

TEST_F(JournalTest, AFileThatIsFullIsFollowedByOneThatStandsAlone) {
  start(64 * kKiB);
  for (int i = 0; i < 1500; ++i) tick();
  EXPECT_EQ(journal_->counters().lost, 0U);
  stop();
  ASSERT_GT(files().size(), 3U);
  for (const fs::path& file : files()) {
    EXPECT_LT(fs::file_size(file), 80U << 10);
    EXPECT_TRUE(policy::sim::replay(file.string(), {}, {})) << file;
    struct stat state{};
    ASSERT_EQ(::stat(file.c_str(), &state), 0);
    EXPECT_EQ(state.st_mode & 0777 & ~0640U, 0U) << "guests' business is not for everybody";
  }
  const auto report = replay();
  EXPECT_EQ(report.ticks, 1500U);
  EXPECT_EQ(report.different, 0U) << policy::sim::to_table(report);
}

TEST_F(JournalTest, TheOldestFilesGoAndNothingElseDoes) {
  start(32 * kKiB, 128 * kKiB);
  tree_.write("/state/journal/notes.txt", std::string(1 << 20, 'x'));
  for (int i = 0; i < 3000; ++i) tick();
  stop();
  std::uint64_t all = 0;
  for (const fs::path& file : files())
    if (file.extension() == ".balloonrec") all += fs::file_size(file);
  EXPECT_LT(all, (128U << 10) + (8U << 10));
  EXPECT_GT(all, 64U << 10);
  EXPECT_TRUE(fs::exists(directory() + "/notes.txt"));
  const auto report = replay();
  EXPECT_GT(report.missing_files, 0U);
  EXPECT_EQ(report.missing_ticks + report.ticks, 3000U);
}

TEST_F(JournalTest, ADirectoryThatCannotBeMadeCostsRecordingsOnlyAndIsTriedAgain) {
  tree_.write("/state", "a file is in the way");
  start();
  tick();
  ASSERT_TRUE(eventually([&] { return journal_->counters().failing.load(); }));
  for (int i = 0; i < 5; ++i) tick();
  EXPECT_GT(states_.newest()->revision, 5U) << "control goes on";
  fs::remove(tree_.root() + "/state");
  clock_.advance(Journal::kRetryAfter);
  ASSERT_TRUE(eventually([&] {
    tick();
    return journal_->counters().decisions > 3;
  }));
  EXPECT_FALSE(journal_->counters().failing);
  const std::uint64_t lost = journal_->counters().lost;
  EXPECT_GE(lost, 6U);
  stop();
  const auto report = replay();
  EXPECT_EQ(report.missing_ticks, lost);
  EXPECT_GT(report.ticks, 3U);
}

TEST_F(JournalTest, AFullDiskEndsTheFileWithItsLastWholeRecordAndAnotherBeginsLater) {
  start();
  for (int i = 0; i < 20; ++i) tick();
  ASSERT_TRUE(eventually([&] { return journal_->counters().decisions == 20; }));
  const auto written = fs::file_size(files().front());
  // As a full disk does, a limit on the size of files lets part of a record through.
  ::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit full{.rlim_cur = written + 10, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &full), 0);
  tick();
  // It is counted last: by then the control thread knows, too.
  const bool failed = eventually([&] { return journal_->counters().lost == 1; });
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  ASSERT_TRUE(failed);
  EXPECT_EQ(fs::file_size(files().front()), written);
  tick();
  clock_.advance(Journal::kRetryAfter);
  for (int i = 0; i < 20; ++i) tick();
  stop();
  EXPECT_EQ(files().size(), 2U);
  const auto report = replay();
  EXPECT_EQ(report.torn, 0U);
  EXPECT_GE(report.ticks, 35U);
  EXPECT_EQ(report.missing_ticks + report.ticks, 42U);
}

TEST_F(JournalTest, NamesOfFilesAreInTheOrderOfTime) {
  const JournalRun run{.began = WallTime(std::chrono::milliseconds(1'763'828'734'045)), .id = 0xabc};
  EXPECT_EQ(journal_file_name(run, 12), "20251122T162534.045Z-0000000000000abc-000012.balloonrec");
}

}  // namespace
}  // namespace balloon::daemon
