// VMMs that claim what they do not have.

#include "tests/integration/daemon_fixture.h"

namespace balloon::test {
namespace {

class LiarTest : public DaemonTest {
 protected:
  nlohmann::json host() const { return ctl_json({"host"}); }
  std::uint64_t committed() const { return host().at("committed_bytes").get<std::uint64_t>(); }
  /// Starts `count` guests of one process that has next to nothing.
  void start_liar(const std::string& gib, int count) {
    liar_ = std::make_unique<Background>(
        std::vector<std::string>{LYING_VMM, socket(), gib, std::to_string(count)}, directory_.file("liar"));
    ASSERT_TRUE(eventually(
        [&] { return ctl_json({"list"}).at("guests").size() == static_cast<std::size_t>(count) + 1; }));
    std::this_thread::sleep_for(std::chrono::seconds(1));  // some decisions
  }

  std::unique_ptr<Background> liar_;
};

TEST_F(LiarTest, AClaimOfMoreThanTheHostCostsNeighboursNothing) {
  FakeVmm honest(socket(), FakeVmm::guest("a", 2 * kGiB, 2 * kGiB));
  for (int i = 0; i < 10; ++i) {
    honest.send_stats(1800 * kMiB);
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  const std::uint64_t before = honest.actual();
  const std::string state = host().at("state");
  start_liar("65536", 1);
  for (int i = 0; i < 30; ++i) {
    honest.send_stats(1800 * kMiB);
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  EXPECT_EQ(host().at("state"), state);
  EXPECT_GE(honest.actual() + 64 * kMiB, before);
  EXPECT_LT(committed(), 4 * kGiB) << "a process of some 50 MiB beside a guest of 2 GiB";
}

TEST_F(LiarTest, TwentyNamesOfAProcessDoNotRaiseTheBudget) {
  FakeVmm honest(socket(), FakeVmm::guest("a", 64 * kMiB, 64 * kMiB));
  std::this_thread::sleep_for(std::chrono::seconds(1));
  const auto before = host().at("budget_bytes").get<std::uint64_t>();
  start_liar("2", 20);
  std::this_thread::sleep_for(std::chrono::seconds(3));
  const auto after = host().at("budget_bytes").get<std::uint64_t>();
  EXPECT_LT(after, before + kGiB / 2) << "there is no more memory than there was";
  EXPECT_LT(committed(), 2 * kGiB);
}

}  // namespace
}  // namespace balloon::test
