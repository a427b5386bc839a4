// SPDX-License-Identifier: Apache-2.0
// A guest as large as the host that cannot be judged or moved, and has touched next to nothing: what it has
// not touched is there for its neighbour, which needs more than it has.
#include <functional>

#include "tests/integration/daemon_fixture.h"

namespace balloon::test {
namespace {

class UntouchedTest : public DaemonTest {
 protected:
  void SetUp() override {}
  void run_daemon(const std::string& engine) {
    directory_.write("policy.yaml", "engine: {hold: 0s, shrink_ratio_per_second: 1, need_half_life: 100ms, " +
                                        engine + "}\n");
    start();
    size_ = ctl_json({"host"}).at("total_bytes").get<std::uint64_t>() / kMiB * kMiB;
  }
  v1::Register big() const { return FakeVmm::guest("big", size_, size_); }
  std::unique_ptr<FakeVmm> run_big(const v1::Register& registration) const {
    return std::make_unique<FakeVmm>(socket(), registration, true, 300 * kMiB);
  }
  bool is(const std::string& state, const std::function<void()>& meanwhile = [] {}) const {
    return eventually([&] {
      meanwhile();
      return state_of("big") == state;
    });
  }
  /// A neighbour that uses 1200 MiB and has 1237 gets its margin, too.
  void expect_neighbour_is_served(const std::function<void()>& meanwhile = [] {}) {
    const Background neighbour({STEADY_VMM, socket(), "neighbour", "2048", "1200"},
                               directory_.file("neighbour"));
    EXPECT_TRUE(eventually([&] {
      meanwhile();
      const Outcome shown = ctl({"show", "neighbour", "-o", "json"});
      return shown.exit_code == 0 && nlohmann::json::parse(shown.out).at("actual_bytes") >= 1300 * kMiB;
    })) << ctl({"explain", "neighbour"}).out
        << ctl({"host"}).out << ctl({"list"}).out;
    EXPECT_NE(ctl_json({"host"}).at("state"), "infeasible") << ctl({"host"}).out;
  }

  std::uint64_t size_ = 0;
};

TEST_F(UntouchedTest, OfAGuestThatNeverSentStatistics) {
  run_daemon("stale_after: 1s, blind_after: 1h");
  const auto vmm = run_big(big());
  ASSERT_TRUE(is("stale"));
  expect_neighbour_is_served();
  EXPECT_TRUE(vmm->targets().empty()) << "nothing was asked of it";
}

TEST_F(UntouchedTest, OfAGuestWhoseStatisticsStopped) {
  run_daemon("stale_after: 1s, blind_after: 1h");
  const auto vmm = run_big(big());
  vmm->stay();
  vmm->send_stats(250 * kMiB);
  ASSERT_TRUE(is("stale"));
  expect_neighbour_is_served();
}

TEST_F(UntouchedTest, OfAGuestWhoseStatisticsMakeNoSense) {
  run_daemon("stale_after: 1s, blind_after: 1h");
  const auto vmm = run_big(big());
  v1::GuestStats nonsense;
  nonsense.set_actual_bytes(2 * size_);
  ASSERT_TRUE(is("stale", [&] { vmm->send_stats(nonsense); }));
  expect_neighbour_is_served([&] { vmm->send_stats(nonsense); });
}

TEST_F(UntouchedTest, OfABlindGuest) {
  run_daemon("stale_after: 1s, blind_after: 1s");
  const auto vmm = run_big(big());
  vmm->refuse("it does not move");
  ASSERT_TRUE(eventually([&] { return !vmm->targets().empty(); })) << "it is judged by what the host sees";
  expect_neighbour_is_served();
}

TEST_F(UntouchedTest, OfAGuestWhoseLinkIsLost) {
  run_daemon("stale_after: 1s, blind_after: 1h");
  const auto vmm = run_big(big());
  ASSERT_TRUE(eventually([&] { return !state_of("big").empty(); }));
  vmm->disconnect();
  ASSERT_TRUE(is("disconnected"));
  expect_neighbour_is_served();
}

TEST_F(UntouchedTest, OfAGuestThatBoots) {
  run_daemon("stale_after: 1s, blind_after: 1h");
  v1::Register booting = big();
  booting.mutable_balloon()->set_driver_ready(false);
  const auto vmm = run_big(booting);
  ASSERT_TRUE(is("booting"));
  expect_neighbour_is_served();
}

TEST_F(UntouchedTest, OfAGuestWhoseBalloonIsStuckAndWhileItIsTriedAgain) {
  run_daemon("stale_after: 10s, stuck_after: 1s, retry_after: 1s, retry_max: 1s");
  const auto vmm = run_big(big());
  vmm->stay();
  const auto idle = [&] { vmm->send_stats(250 * kMiB); };
  ASSERT_TRUE(is("stuck", idle));
  expect_neighbour_is_served(idle);
  const std::size_t asked = vmm->targets().size();
  ASSERT_TRUE(eventually([&] {
    idle();
    return vmm->targets().size() >= asked + 2;
  })) << "it is tried again";
  EXPECT_NE(ctl_json({"host"}).at("state"), "infeasible") << ctl({"host"}).out;
}

TEST_F(UntouchedTest, OfAGuestWhoseBalloonIsSlow) {
  run_daemon("stale_after: 10s, stuck_after: 1h");
  const auto vmm = run_big(big());
  vmm->stay();
  const auto creep = [&] {
    vmm->send_stats(250 * kMiB);
    vmm->creep(kMiB);
  };
  ASSERT_TRUE(eventually([&] {
    creep();
    return vmm->actual() < size_ - 10 * kMiB;
  }));
  expect_neighbour_is_served(creep);
  EXPECT_EQ(state_of("big"), "controlled");
  EXPECT_GT(vmm->actual(), size_ / 2) << "it has freed next to nothing of it yet";
}

}  // namespace
}  // namespace balloon::test
