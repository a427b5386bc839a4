// SPDX-License-Identifier: Apache-2.0
// What guests needed, of the real daemon and balloonctl.
#include <gtest/gtest.h>

#include "tests/integration/daemon_fixture.h"

namespace balloon::test {
namespace {

class NeedsTest : public DaemonTest {
 protected:
  void SetUp() override {
    write_policy("");
    start(needs_);
  }
  /// Once some seconds of the guest have been seen.
  bool knows(const std::string& guest, FakeVmm& vmm) {
    return eventually([&] {
      vmm.send_stats(400 * kMiB);
      const Outcome outcome = ctl({"needs", guest, "-o", "json"});
      if (outcome.exit_code != 0) return false;
      const auto days = nlohmann::json::parse(outcome.out).at("guests").at(0).at("days");
      return !days.empty() && days.back().at("needs").at("observed").get<double>() >= 2;
    });
  }

  const std::string needs_ = "needs: {directory: " + directory_.file("needs") + "}\n";
};

TEST_F(NeedsTest, WhatAGuestNeededIsKnownDayByDay) {
  FakeVmm vmm(socket(), FakeVmm::guest("a", 2 * kGiB, 2 * kGiB));
  ASSERT_TRUE(knows("a", vmm));
  const auto guest = ctl_json({"needs", "a"}).at("guests").at(0);
  EXPECT_EQ(guest.at("name"), "a");
  EXPECT_EQ(guest.at("memory_bytes"), 2 * kGiB);
  const auto needed = guest.at("days").at(0).at("needs").at("max_bytes").get<std::uint64_t>();
  EXPECT_GE(needed, 400 * kMiB) << "what it uses, and a margin";
  EXPECT_LE(needed, 2 * kGiB);
  EXPECT_EQ(ctl({"needs", "nobody"}).exit_code, 3);
  EXPECT_EQ(ctl({"needs", "a", "-o", "yaml"}).exit_code, 0);
  EXPECT_NE(ctl({"needs", "a"}).out.find("WHEN"), std::string::npos);
}

TEST_F(NeedsTest, ItOutlivesTheDaemonAndTheGuest) {
  {
    FakeVmm vmm(socket(), FakeVmm::guest("a", 2 * kGiB, 2 * kGiB));
    ASSERT_TRUE(knows("a", vmm));
  }
  daemon_->signal(SIGTERM);
  EXPECT_EQ(daemon_->wait(), 0);
  start(needs_);
  EXPECT_TRUE(eventually([&] { return !ctl_json({"needs"}).at("guests").empty(); }));
  const auto guest = ctl_json({"needs"}).at("guests").at(0);
  EXPECT_EQ(guest.at("name"), "a");
  EXPECT_TRUE(guest.at("memory_bytes").is_null()) << "it is not there now";
  EXPECT_GE(guest.at("month").at("observed").get<double>(), 2);
  EXPECT_NE(ctl({"needs", "-o", "wide"}).out.find("MONTH MAX"), std::string::npos);
}

}  // namespace
}  // namespace balloon::test
