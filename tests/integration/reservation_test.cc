// SPDX-License-Identifier: Apache-2.0
// Reservations by a real daemon: freed by its guests' balloons, granted when free, refused or expired else.
#include <signal.h>

#include <filesystem>
#include <thread>

#include "tests/integration/daemon_fixture.h"

namespace balloon::test {
namespace {

class ReservationTest : public DaemonTest {
 protected:
  void SetUp() override {
    write_policy("");
    start("journal: {directory: " + journal() + "}\n");
  }
  std::string journal() const { return directory_.file("journal"); }
  std::uint64_t host(const char* what) const { return ctl_json({"host"}).at(what).get<std::uint64_t>(); }
  std::size_t reservations() const { return ctl_json({"reservations"}).at("reservations").size(); }

  /// A guest that has all of the host's memory, and uses 300 MiB of it as soon as it says so.
  std::unique_ptr<FakeVmm> filling_guest() const {
    const std::uint64_t size = host("total_bytes") / kMiB * kMiB;
    return std::make_unique<FakeVmm>(socket(), FakeVmm::guest("idle", size, size));
  }
  bool is_controlled(FakeVmm& vmm) const {
    return eventually([&] {
      vmm.send_stats(300 * kMiB);
      return state_of("idle") == "controlled";
    });
  }
};

TEST_F(ReservationTest, TheBalloonsOfIdleGuestsShrinkAndThenItIsGranted) {
  const auto vmm = filling_guest();
  ASSERT_TRUE(is_controlled(*vmm));
  const std::uint64_t wanted = 2 * kGiB;
  Outcome outcome;
  std::thread asking([&] { outcome = ctl({"reserve", "new", "2GiB", "--within", "60s", "-o", "json"}); });
  const bool kept = eventually([&] {
    vmm->send_stats(300 * kMiB);
    return host("reserved_bytes") >= wanted;
  });
  asking.join();
  EXPECT_TRUE(kept) << ctl({"reservations"}).out << ctl({"list"}).out << daemon_->log();
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const auto granted = nlohmann::json::parse(outcome.out);
  EXPECT_EQ(granted.at("state"), "granted");
  EXPECT_EQ(granted.at("granted_bytes"), wanted);
  EXPECT_LE(vmm->actual(), host("total_bytes") - wanted) << "it came from the idle guest";
  EXPECT_TRUE(eventually([&] {  // the budget goes with what else the machine does, and the guest with it
    vmm->send_stats(300 * kMiB);
    const auto now = ctl_json({"host"});
    return now.at("committed_bytes").get<std::uint64_t>() + now.at("reserved_bytes").get<std::uint64_t>() <=
           now.at("budget_bytes").get<std::uint64_t>() + 64 * kMiB;
  })) << ctl({"host"}).out;
  EXPECT_NE(ctl({"reservations"}).out.find("new          granted"), std::string::npos)
      << ctl({"reservations"}).out;

  EXPECT_EQ(ctl({"release", "new"}).exit_code, 4) << "that takes its token";
  const std::string token = granted.at("token");
  EXPECT_EQ(ctl({"release", "new", "--token", token}).exit_code, 0);
  EXPECT_EQ(ctl({"release", "new", "--token", token}).exit_code, 0) << "again is no error";
  EXPECT_EQ(ctl({"release", "other", "--token", token}).exit_code, 3);
  EXPECT_EQ(ctl_json({"reservation", "new"}).at("state"), "released");
  EXPECT_TRUE(eventually([&] { return host("reserved_bytes") == 0; }));
  daemon_->signal(SIGTERM);
  ASSERT_EQ(daemon_->wait(), 0);
  const Outcome replay = run({BALLOON_SIM, "replay", journal(), "-o", "json"});
  EXPECT_EQ(replay.exit_code, 0) << replay.out << replay.err;
  EXPECT_EQ(nlohmann::json::parse(replay.out).at("different_ticks"), 0) << "the journal has them, too";
}

TEST_F(ReservationTest, OneThatCannotFitIsRefusedAtOnceWithTheReason) {
  const Outcome outcome = ctl({"reserve", "giant", "8TiB", "--within", "1h"});
  EXPECT_EQ(outcome.exit_code, 4);
  EXPECT_NE(outcome.err.find("the host cannot hold 8 TiB: of the "), std::string::npos) << outcome.err;
  EXPECT_EQ(reservations(), 0U);
}

TEST_F(ReservationTest, OneWhoseMemoryDoesNotComeExpires) {
  const auto vmm = filling_guest();
  vmm->refuse("its balloon is broken");
  ASSERT_TRUE(is_controlled(*vmm));
  // One that falls silent is taken to need no more than it has touched.
  const std::jthread talking([&](const std::stop_token& end) {
    for (; !end.stop_requested(); std::this_thread::sleep_for(std::chrono::milliseconds(100)))
      vmm->send_stats(300 * kMiB);
  });
  const Outcome outcome = ctl({"reserve", "late", "1GiB", "--within", "4s"});
  EXPECT_EQ(outcome.exit_code, 4) << outcome.out;
  EXPECT_NE(outcome.err.find("its time is over: 1 GiB cannot be freed within 4 s"), std::string::npos)
      << outcome.err << ctl({"list"}).out;
  EXPECT_TRUE(logs("reservation late: expired"));
  EXPECT_EQ(reservations(), 0U);
}

TEST_F(ReservationTest, AGuestThatHasComeTakesOverWhatWasKeptForIt) {
  ASSERT_EQ(ctl({"reserve", "new", "512MiB"}).exit_code, 0);
  ASSERT_EQ(reservations(), 1U);
  v1::Register booting = FakeVmm::guest("new", 512 * kMiB, 512 * kMiB);
  booting.mutable_balloon()->set_driver_ready(false);
  {
    const FakeVmm vmm(socket(), booting);
    ASSERT_TRUE(eventually([&] { return state_of("new") == "booting"; }));
    EXPECT_EQ(reservations(), 1U) << "it has not taken its memory yet";
  }
  const FakeVmm vmm(socket(), FakeVmm::guest("new", 512 * kMiB, 512 * kMiB));
  EXPECT_TRUE(eventually([&] { return reservations() == 0; })) << ctl({"reservations"}).out;
  EXPECT_TRUE(logs("reservation new: its guest has come"));
}

TEST_F(ReservationTest, AGuestThatIsNotWhatWasReservedForDoesNotConsumeIt) {
  ASSERT_EQ(ctl({"reserve", "new", "512MiB"}).exit_code, 0);
  const FakeVmm vmm(socket(), FakeVmm::guest("new", 64 * kMiB, 64 * kMiB));
  ASSERT_TRUE(eventually([&] { return !state_of("new").empty(); }));
  EXPECT_TRUE(logs("a guest of that name has 64 MiB of boot memory, and 512 MiB are reserved"));
  EXPECT_EQ(ctl_json({"reservation", "new"}).at("state"), "granted");
  EXPECT_EQ(host("reserved_bytes"), 512 * kMiB);
}

/// A daemon that keeps what it grants.
class KeptReservationTest : public ReservationTest {
 protected:
  void SetUp() override {
    write_policy("");
    start_again();
  }
  void start_again() {
    start("journal: {directory: " + journal() + "}\nreservations: {file: " + file() + "}\n");
  }
  void kill() {
    daemon_->signal(SIGKILL);
    ASSERT_EQ(daemon_->wait(), 128 + SIGKILL);
  }
  std::string file() const { return directory_.file("state/reservations.json"); }
};

TEST_F(KeptReservationTest, WhatWasGrantedIsThereAfterAKillAndKeepsItsMemoryUntilItIsReleased) {
  ASSERT_EQ(ctl({"reserve", "new", "1GiB", "--max", "1GiB", "--lease", "1h"}).exit_code, 0);
  const auto before = ctl_json({"reservations"}).at("reservations").at(0);
  kill();
  start_again();
  const auto after = ctl_json({"reservations"});
  ASSERT_EQ(after.at("reservations").size(), 1U) << daemon_->log();
  for (const char* const same : {"id", "state", "min_bytes", "granted_bytes", "deadline"})
    EXPECT_EQ(after.at("reservations").at(0).at(same), before.at(same)) << same;
  EXPECT_EQ(host("reserved_bytes"), kGiB) << "from the first decision on, before any guest has come";
  const std::string rest = std::to_string((host("budget_bytes") - kGiB / 2) / kMiB) + "MiB";
  EXPECT_EQ(ctl({"reserve", "other", rest, "--within", "1s"}).exit_code, 4) << "that is promised already";

  EXPECT_EQ(ctl({"release", "new", "--force"}).exit_code, 0);
  kill();
  start_again();
  EXPECT_EQ(reservations(), 0U) << "a release is kept, too";
  EXPECT_EQ(host("reserved_bytes"), 0U);
  daemon_->signal(SIGTERM);
  ASSERT_EQ(daemon_->wait(), 0);
  const Outcome replay = run({BALLOON_SIM, "replay", journal(), "-o", "json"});
  EXPECT_EQ(replay.exit_code, 0) << replay.out << replay.err;
  EXPECT_EQ(nlohmann::json::parse(replay.out).at("runs"), 3);
  EXPECT_EQ(nlohmann::json::parse(replay.out).at("different_ticks"), 0) << replay.out;
}

TEST_F(KeptReservationTest, ARequestThatIsAskedAgainAfterAKillIsTheSameReservation) {
  const std::vector<std::string> request{"reserve", "new",     "512MiB", "--request-id",
                                         "r-1",     "--owner", "nova"};
  const auto before = ctl_json(request);
  kill();
  start_again();
  const auto after = ctl_json(request);
  EXPECT_EQ(after.at("token"), before.at("token"));
  EXPECT_EQ(after.at("owner"), "nova");
  EXPECT_EQ(reservations(), 1U);
  const std::string token = before.at("token");
  EXPECT_EQ(ctl_json({"commit", "new", "--token", token, "--lease", "1h"}).at("state"), "committed");
  kill();
  start_again();
  EXPECT_EQ(ctl_json({"reservation", "new"}).at("state"), "committed");
  EXPECT_EQ(ctl({"extend", "new", "--token", token}).exit_code, 0);
  EXPECT_EQ(ctl({"release", "new", "--token", token}).exit_code, 0);
  kill();
  start_again();
  const Outcome late = ctl(request);
  EXPECT_EQ(late.exit_code, 4) << "a retry that was late";
  EXPECT_NE(late.err.find("the reservation of this request_id has ended: it was released"), std::string::npos)
      << late.err;
}

TEST_F(KeptReservationTest, OnAFullDiskNothingIsGrantedOrReleasedAndTheCallerIsToldWhy) {
  ASSERT_EQ(ctl({"reserve", "old", "512MiB"}).exit_code, 0);
  std::filesystem::create_symlink("/dev/full", file() + ".new");
  const Outcome refused = ctl({"reserve", "new", "512MiB"});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_NE(refused.err.find("it cannot be written down: cannot write " + file() + ".new: No space left"),
            std::string::npos)
      << refused.err;
  std::filesystem::create_symlink("/dev/full", file() + ".new");
  EXPECT_EQ(ctl({"release", "old", "--force"}).exit_code, 1);
  EXPECT_EQ(reservations(), 1U) << "the old one, as before";
  EXPECT_TRUE(eventually([&] { return host("reserved_bytes") == 512 * kMiB; }));
  EXPECT_EQ(ctl({"reserve", "new", "512MiB"}).exit_code, 0) << "there is room again";
  EXPECT_EQ(reservations(), 2U);
}

TEST_F(KeptReservationTest, ADamagedFileKeepsTheDaemonFromStartingAsIfItHadGrantedNothing) {
  ASSERT_EQ(ctl({"reserve", "new", "512MiB"}).exit_code, 0);
  kill();
  std::filesystem::resize_file(file(), std::filesystem::file_size(file()) / 2);
  const Outcome outcome = run({BALLOOND, "--config", directory_.file("balloond.yaml")});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_NE(outcome.err.find(file() + ": it is damaged: "), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find("mv " + file() + " " + file() + ".damaged"), std::string::npos) << outcome.err;
  std::filesystem::rename(file(), file() + ".damaged");
  start_again();
  EXPECT_EQ(reservations(), 0U);
}

}  // namespace
}  // namespace balloon::test
