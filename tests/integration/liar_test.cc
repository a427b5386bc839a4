// SPDX-License-Identifier: Apache-2.0
// VMMs that claim what they do not have.

#include "tests/integration/daemon_fixture.h"

namespace balloon::test {
namespace {

class LiarTest : public DaemonTest {
 protected:
  nlohmann::json host() const { return ctl_json({"host"}); }
  std::uint64_t host(const char* what) const { return host().at(what).get<std::uint64_t>(); }
  /// So many decisions, each with fresh statistics of the guest.
  void decide(FakeVmm& vmm, int times) const {
    for (int i = 0; i < times; ++i) {
      vmm.send_stats(1800 * kMiB);
      EXPECT_EQ(ctl({"watch", "-o", "json", "--count", "3"}).exit_code, 0);
    }
  }
  /// Starts `count` guests of one process that has next to nothing.
  void start_liar(const std::string& gib, int count) {
    liar_ = std::make_unique<Background>(
        std::vector<std::string>{LYING_VMM, socket(), gib, std::to_string(count)}, directory_.file("liar"));
    ASSERT_TRUE(eventually([&] { return liars() == count; }));
  }
  int liars() const {
    int found = 0;
    const auto guests = ctl_json({"list"}).at("guests");
    for (const auto& guest : guests) {
      if (guest.at("name").get<std::string>().starts_with("liar-")) ++found;
    }
    return found;
  }

  std::unique_ptr<Background> liar_;
};

TEST_F(LiarTest, AClaimOfMoreThanTheHostCostsNeighboursNothing) {
  FakeVmm honest(socket(), FakeVmm::guest("a", 2 * kGiB, 2 * kGiB));
  decide(honest, 10);
  ASSERT_GT(honest.actual(), 1800 * kMiB);
  start_liar("65536", 1);
  decide(honest, 10);
  EXPECT_NE(host().at("state"), "infeasible");
  EXPECT_GT(honest.actual(), 1800 * kMiB) << "it has what it uses";
  EXPECT_LT(host("committed_bytes"), 4 * kGiB) << "a process of some 50 MiB beside a guest of 2 GiB";
}

TEST_F(LiarTest, TwentyNamesOfAProcessDoNotRaiseTheBudget) {
  start_liar("2", 20);
  ASSERT_EQ(ctl({"watch", "-o", "json", "--count", "10"}).exit_code, 0);  // some decisions
  const auto now = host();
  EXPECT_LT(now.at("budget_bytes").get<std::uint64_t>() + now.at("reserve_bytes").get<std::uint64_t>(),
            now.at("available_bytes").get<std::uint64_t>() + kGiB / 4)
      << "there is what the host has available, and what the one process holds";
  EXPECT_LT(host("committed_bytes"), 2 * kGiB);
}

}  // namespace
}  // namespace balloon::test
