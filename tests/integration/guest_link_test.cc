// SPDX-License-Identifier: Apache-2.0
#include "tests/integration/daemon_fixture.h"

namespace balloon::test {
namespace {

TEST_F(DaemonTest, AGuestWithIdleMemoryIsShrunkToWhatItNeeds) {
  FakeVmm vmm(socket(), FakeVmm::guest("a", 2 * kGiB, 2 * kGiB));
  ASSERT_TRUE(eventually([&] {
    vmm.send_stats(400 * kMiB);
    return vmm.actual() < 700 * kMiB;
  })) << "actual stays at "
      << vmm.actual() / kMiB << " MiB; explain: " << ctl({"explain", "a"}).out;
  EXPECT_GE(vmm.actual(), 400 * kMiB);
}

TEST_F(DaemonTest, AGuestThatIsShortIsGrown) {
  FakeVmm vmm(socket(), FakeVmm::guest("a", 2 * kGiB, 512 * kMiB));
  ASSERT_TRUE(eventually([&] {
    vmm.send_stats(vmm.actual() - 8 * kMiB);
    return vmm.actual() > 600 * kMiB;
  })) << ctl({"explain", "a"}).out;
}

TEST_F(DaemonTest, AGuestIsToldTheStatisticsInterval) {
  FakeVmm vmm(socket(), FakeVmm::guest("a", 2 * kGiB, kGiB));
  ASSERT_TRUE(eventually([&] { return vmm.stats_interval().has_value(); }));
  EXPECT_EQ(*vmm.stats_interval(), std::chrono::milliseconds(200));
}

TEST_F(DaemonTest, ASecondGuestOfTheSameNameIsRefused) {
  FakeVmm first(socket(), FakeVmm::guest("a", 2 * kGiB, kGiB));
  ASSERT_TRUE(eventually([&] { return first.stats_interval().has_value(); }));
  FakeVmm second(socket(), FakeVmm::guest("a", 2 * kGiB, kGiB));
  const auto end = second.ended();
  ASSERT_TRUE(end.has_value()) << "the second guest's stream goes on";
  EXPECT_EQ(end->error_code(), grpc::StatusCode::ALREADY_EXISTS);
  EXPECT_EQ(end->error_message(), "guest a is already run by process " + std::to_string(::getpid()) +
                                      "; choose another name, or stop it first");
}

TEST_F(DaemonTest, ARegistrationThatMakesNoSenseIsRefusedWithTheReason) {
  FakeVmm bad_name(socket(), FakeVmm::guest("../etc", 2 * kGiB, kGiB));
  FakeVmm bad_memory(socket(), FakeVmm::guest("a", 4095, 4095));
  for (FakeVmm* vmm : {&bad_name, &bad_memory}) {
    const auto end = vmm->ended();
    ASSERT_TRUE(end.has_value());
    EXPECT_EQ(end->error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  }
  EXPECT_EQ(bad_memory.ended()->error_message(),
            "boot memory of 4095 bytes must be a multiple of 4096, above 0 and at most 2^46");
}

TEST_F(DaemonTest, AGuestThatReportsNonsenseGoesStaleAndNobodyElseIsHarmed) {
  FakeVmm liar(socket(), FakeVmm::guest("liar", 2 * kGiB, kGiB));
  FakeVmm honest(socket(), FakeVmm::guest("honest", 2 * kGiB, 2 * kGiB));
  v1::GuestStats nonsense;
  nonsense.set_actual_bytes(kGiB);
  nonsense.set_total_bytes(kGiB);
  nonsense.set_available_bytes(3 * kGiB);
  ASSERT_TRUE(eventually([&] {
    liar.send_stats(nonsense);
    honest.send_stats(400 * kMiB);
    return honest.actual() < 700 * kMiB && state_of("liar") == "stale";
  }));
  EXPECT_TRUE(liar.targets().empty()) << "a target was set on the word of nonsense";
  EXPECT_NE(ctl({"explain", "liar"}).out.find("available 3 GiB is above total 1 GiB"), std::string::npos)
      << ctl({"explain", "liar"}).out;
}

TEST_F(DaemonTest, ARefusedTargetIsLoggedAndNotAskedForAgainAtOnce) {
  FakeVmm vmm(socket(), FakeVmm::guest("a", 2 * kGiB, 2 * kGiB));
  vmm.refuse("no balloon today");
  ASSERT_TRUE(eventually([&] { return ctl({"set", "a", "1GiB"}).exit_code == 0; }));
  ASSERT_TRUE(logs("refused target 1 GiB: no balloon today")) << daemon_->log();
  ASSERT_EQ(ctl({"watch", "-o", "json", "--count", "6"}).exit_code, 0);  // five more decisions
  EXPECT_EQ(vmm.targets().size(), 1U);
}

TEST_F(DaemonTest, AGuestWhoseConnectionIsLostIsKeptWhileItsProcessLives) {
  FakeVmm vmm(socket(), FakeVmm::guest("a", 2 * kGiB, kGiB));
  ASSERT_TRUE(eventually([&] { return !state_of("a").empty(); }));
  vmm.disconnect();
  ASSERT_TRUE(eventually([&] { return state_of("a") == "disconnected"; }));  // its process is this test
  ASSERT_EQ(ctl({"watch", "-o", "json", "--count", "4"}).exit_code, 0);      // three more decisions
  EXPECT_EQ(state_of("a"), "disconnected");
  EXPECT_EQ(ctl_json({"host"}).at("committed_bytes"), kGiB);
}

}  // namespace
}  // namespace balloon::test
