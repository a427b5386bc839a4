// SPDX-License-Identifier: Apache-2.0
#include "policy/shadow.h"

#include <gtest/gtest.h>

#include "fake_host.h"

namespace balloon::policy {
namespace {

TEST(Shadow, FindsNoDifferenceBetweenALawAndItself) {
  FakeHost host(8 * kGiB);
  for (int i = 0; i < 6; ++i) host.add(2 * kGiB, 300 * kMiB, {256 * kMiB, 2 * kGiB, 100});
  Engine live({});
  Shadow shadow(std::make_unique<Engine>(Tunables{}));
  for (int i = 0; i < 30; ++i) {
    const Snapshot seen = host.snapshot();
    shadow.observe(seen, host.step(live));
  }
  EXPECT_EQ(shadow.totals().decisions, 30U);
  EXPECT_EQ(shadow.totals().different, 0U);
}

TEST(Shadow, SaysForWhomItWouldHaveDecidedOtherwiseAndByHowMuch) {
  FakeHost host(8 * kGiB);
  for (int i = 0; i < 6; ++i) host.add(2 * kGiB, 300 * kMiB, {256 * kMiB, 2 * kGiB, 100});
  Tunables generous;
  generous.surplus = Surplus::guests;
  Engine live({});
  Shadow shadow(std::make_unique<Engine>(generous));
  Bytes target{};
  for (int i = 0; i < 60; ++i) {
    const Snapshot seen = host.snapshot();
    const Plan plan = host.step(live);
    const ShadowReport& report = shadow.observe(seen, plan);
    if (i < 59) continue;
    ASSERT_EQ(report.guests.size(), 6U);
    EXPECT_EQ(report.guests[2].guest, "g0002");
    EXPECT_EQ(report.guests[2].live, plan.guests[2].target);
    EXPECT_GT(report.guests[2].shadow, report.guests[2].live);
    EXPECT_EQ(report.guests[2].shadow_reason, Reason::surplus);
    EXPECT_GT(report.more, kGiB);
    EXPECT_EQ(report.less, Bytes{0});
    target = host.guests[2].seen.target;
  }
  EXPECT_LT(target, 600 * kMiB) << "the shadow moves nothing";
  EXPECT_GT(shadow.totals().more, 0);
  EXPECT_GT(shadow.totals().different, 10U);
}

}  // namespace
}  // namespace balloon::policy
