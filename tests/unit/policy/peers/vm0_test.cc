// SPDX-License-Identifier: Apache-2.0
#include "policy/peers/vm0.h"

#include <gtest/gtest.h>

#include "tests/unit/policy/peers/hosts.h"

namespace balloon::policy::peers {
namespace {

/// The target of a guest of 2048 MiB, in MiB.
std::uint64_t target(std::uint64_t size, std::uint64_t free, std::uint64_t available) {
  Vm0 law;
  return law.decide(host(10000, 0, {guest("a", 2048, size, free, available)})).guests[0].target / kMiB;
}

TEST(Vm0Test, TakesFreeMemoryButLeavesSome) { EXPECT_EQ(target(2048, 500, 900), 2048 - 244); }

TEST(Vm0Test, TakesAtMostOneStep) { EXPECT_EQ(target(2048, 1500, 1600), 2048 - 256); }

TEST(Vm0Test, LeavesCacheAlone) { EXPECT_EQ(target(2048, 384, 1900), 2048); }

TEST(Vm0Test, GivesAllBackWhenLittleIsAvailable) { EXPECT_EQ(target(1200, 500, 191), 2048); }

TEST(Vm0Test, KeepsWhatIsBetweenItsThresholds) { EXPECT_EQ(target(1200, 100, 192), 1200); }

TEST(Vm0Test, StopsAtOneGigabyte) { EXPECT_EQ(target(1100, 500, 600), 1024); }

TEST(Vm0Test, LeavesAGuestWithoutStatisticsAlone) {
  GuestSnapshot blind = guest("a", 2048, 1500, 900, 900);
  blind.stats->available.reset();
  Vm0 law;
  EXPECT_EQ(law.decide(host(10000, 0, {blind})).guests[0].target, 1500 * kMiB);
}

}  // namespace
}  // namespace balloon::policy::peers
