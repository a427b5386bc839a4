// SPDX-License-Identifier: Apache-2.0
#include <signal.h>

#include "tests/integration/daemon_fixture.h"

namespace balloon::test {
namespace {

TEST_F(DaemonTest, ADaemonThatWasKilledAdoptsWhatItFindsAndControlGoesOn) {
  auto vmm = std::make_unique<FakeVmm>(socket(), FakeVmm::guest("a", 2 * kGiB, 2 * kGiB));
  ASSERT_TRUE(eventually([&] {
    vmm->send_stats(400 * kMiB);
    return vmm->actual() < 700 * kMiB;
  }));
  daemon_->signal(SIGKILL);
  ASSERT_EQ(daemon_->wait(), 128 + SIGKILL);
  vmm->disconnect();
  const v1::Register as_left = vmm->registration();

  start();  // the socket file of the killed daemon is still there
  vmm = std::make_unique<FakeVmm>(socket(), as_left);
  ASSERT_TRUE(eventually([&] { return !state_of("a").empty(); }));
  ASSERT_EQ(ctl({"watch", "-o", "json", "--count", "6"}).exit_code,
            0);  // five more decisions without statistics
  EXPECT_TRUE(vmm->targets().empty()) << "a balloon was moved before fresh statistics";
  EXPECT_EQ(ctl_json({"show", "a"}).at("target_bytes"), as_left.balloon().target_bytes());

  ASSERT_TRUE(eventually([&] {
    vmm->send_stats(vmm->actual() - 8 * kMiB);
    return vmm->actual() > as_left.balloon().actual_bytes() + 50 * kMiB;
  })) << ctl({"explain", "a"}).out;
}

TEST_F(DaemonTest, ItStopsOnSigtermThoughStreamsAreOpenAndLeavesBalloonsAlone) {
  FakeVmm vmm(socket(), FakeVmm::guest("a", 2 * kGiB, kGiB));
  Background watch({BALLOONCTL, "--socket", socket(), "watch", "-o", "json"}, directory_.file("watch"));
  ASSERT_TRUE(eventually([&] { return watch.log().find("\"name\":\"a\"") != std::string::npos; }))
      << watch.log();
  daemon_->signal(SIGTERM);
  EXPECT_EQ(daemon_->wait(), 0) << daemon_->log();
  EXPECT_EQ(watch.wait(), 5);
  EXPECT_TRUE(vmm.ended().has_value());
  EXPECT_TRUE(vmm.targets().empty());
  EXPECT_NE(::access(socket().c_str(), F_OK), 0) << "the socket file stays";
}

TEST_F(DaemonTest, ReloadTakesANewPolicyAndKeepsTheOldOneWhenTheNewOneIsBad) {
  FakeVmm vmm(socket(), FakeVmm::guest("a", 2 * kGiB, kGiB));
  ASSERT_TRUE(eventually([&] { return !state_of("a").empty(); }));
  EXPECT_EQ(ctl_json({"show", "a"}).at("min_bytes"), 360 * kMiB);

  write_policy("defaults: {min: 512MiB}\n");
  daemon_->signal(SIGHUP);
  ASSERT_TRUE(eventually([&] { return ctl_json({"show", "a"}).at("min_bytes") == 512 * kMiB; }))
      << daemon_->log();

  write_policy("defaults: {min: 3GiB, max: 1GiB, wieght: 7}\n");
  daemon_->signal(SIGHUP);
  ASSERT_TRUE(logs("the old one stays")) << daemon_->log();
  EXPECT_TRUE(logs("policy.yaml:2:17: defaults.min: min 3 GiB is above max 1 GiB")) << daemon_->log();
  EXPECT_TRUE(logs("wieght: unknown key; did you mean 'weight'?")) << daemon_->log();
  EXPECT_EQ(ctl_json({"show", "a"}).at("min_bytes"), 512 * kMiB);
}

TEST_F(DaemonTest, AReloadThatWouldMakeGuestsStaleBetweenTwoSamplesIsRefused) {
  FakeVmm vmm(socket(), FakeVmm::guest("a", 2 * kGiB, kGiB));
  ASSERT_TRUE(eventually([&] { return vmm.stats_interval().has_value(); }));
  directory_.write("policy.yaml", "engine: {stale_after: 300ms}\ndefaults: {min: 512MiB}\n");
  daemon_->signal(SIGHUP);
  ASSERT_TRUE(
      logs("control.stats_interval: 200ms is more than half of the policy's engine.stale_after, 300ms"))
      << daemon_->log();
  EXPECT_TRUE(logs("the old one stays")) << daemon_->log();
  EXPECT_EQ(ctl_json({"show", "a"}).at("min_bytes"), 360 * kMiB);
}

}  // namespace
}  // namespace balloon::test
