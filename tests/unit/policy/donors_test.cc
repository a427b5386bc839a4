// SPDX-License-Identifier: Apache-2.0
#include "policy/donors.h"

#include <gtest/gtest.h>

#include "one_decision.h"

namespace balloon::policy {
namespace {

/// A guest with 400 MiB beyond its share (100 free, 200 of page cache, 100 of programs), and one that needs
/// 700 MiB, claims 900 and has 500.
class DonorAndTaker : public OneDecision {
 public:
  explicit DonorAndTaker(std::uint64_t budget_mib) : OneDecision(budget_mib) {
    add({.size = 1000, .share = 600, .need = 600, .claim = 600, .free = 100, .available = 300});
    add({.size = 500, .share = 900, .need = 700, .claim = 900});
    ask_donors(decision);
  }
};

double asked_of_donor(std::uint64_t budget_mib) { return DonorAndTaker(budget_mib).asked(0); }

TEST(Donors, AreAskedForNothingWhileEverythingFits) { EXPECT_EQ(asked_of_donor(4000), 0); }

TEST(Donors, GiveOnlyWhatIsFreeInThemForOthersClaims) {
  EXPECT_NEAR(asked_of_donor(1800), 100, 0.01) << "1900 MiB are claimed, 1700 needed";
}

TEST(Donors, GivePageCacheTooForOthersNeeds) {
  EXPECT_NEAR(asked_of_donor(1500), 200, 0.01) << "of the 1700 MiB that are needed 200 are missing";
}

TEST(Donors, AreAskedToRefillHalfOfTheHeadroom) {
  EXPECT_NEAR(asked_of_donor(1905), 14.05, 0.01) << "19.05 MiB should be free, and 5 are";
}

TEST(Donors, SayWhetherGuestsHaveMoreThanTheBudget) {
  for (const auto& [budget, over] : {std::pair{1501U, false}, {1499U, true}}) {
    EXPECT_EQ(DonorAndTaker(budget).decision.over_budget, over) << budget;
  }
}

TEST(Donors, SayWhetherGuestsHaveWhatAReservationWaitsFor) {
  for (const auto& [share, over] : {std::pair{300 * kMiB, false}, {301 * kMiB, true}}) {
    OneDecision one(1000);
    one.add({.size = 700, .share = 700, .need = 700, .claim = 700});
    one.decision.reservation_shares = std::span(&share, 1);
    ask_donors(one.decision);
    EXPECT_EQ(one.decision.over_budget, over) << format_bytes(share);
  }
}

TEST(Donors, LeaveForWhatIsBeyondClaimsThePartThatIsFree) {
  OneDecision one(1000);
  one.add({.size = 300, .share = 700, .need = 300, .claim = 300});
  one.add({.size = 500, .share = 500, .need = 500, .claim = 500});
  ask_donors(one.decision);
  EXPECT_NEAR(one.decision.surplus_ratio, 0.5, 1e-9) << "200 MiB are free of the 400 that are wished for";
}

TEST(Donors, UnderPressureGiveOnlyOnceNobodyHasIdleMemory) {
  for (const std::uint64_t idle : {0, 500}) {
    OneDecision one(1700);
    one.add({.size = 1000, .share = 600, .need = 1000, .claim = 1000, .pressure = Pressure::pressed});
    one.add({.size = 500, .share = 700, .need = 700, .claim = 700});
    one.add({.size = 500 + idle, .share = 500, .need = 500, .claim = 500, .free = idle, .available = idle});
    ask_donors(one.decision);
    EXPECT_EQ(one.asked(0) > 0, idle == 0) << idle;
  }
}

TEST(Donors, WithLessThanADeadbandBeyondTheirNeedAreNotIdle) {
  OneDecision one(1700);
  one.add({.size = 1000, .share = 600, .need = 1000, .claim = 1000, .pressure = Pressure::pressed});
  one.add({.size = 500, .share = 700, .need = 700, .claim = 700});
  one.add({.size = 516, .share = 500, .need = 500, .claim = 500, .free = 16, .available = 16});
  ask_donors(one.decision);
  EXPECT_GT(one.asked(0), 0);
}

TEST(Donors, UnderPressureGiveWithTheOthersWhereTheHostIsCritical) {
  OneDecision one(1700);
  one.decision.plan.level = HostState::critical;
  one.add({.size = 1000, .share = 600, .need = 1000, .claim = 1000, .pressure = Pressure::pressed});
  one.add({.size = 1000, .share = 500, .need = 500, .claim = 500, .free = 500, .available = 500});
  ask_donors(one.decision);
  EXPECT_NEAR(one.asked(0), 400, 0.01) << "all that is beyond shares, at full speed";
  EXPECT_NEAR(one.asked(1), 500, 0.01);
}

TEST(Donors, DoNotGiveAgainWhatWasTakenSinceTheirSample) {
  OneDecision one(1000);
  OneGuest donor{.size = 1000, .share = 600, .need = 600, .claim = 600, .free = 300, .available = 350};
  donor.target = 800;
  one.add(donor);
  one.add({.size = 300, .share = 400, .need = 400, .claim = 400});
  ask_donors(one.decision);
  EXPECT_NEAR(one.asked(0), 200, 0.01) << "1200 are held or needed of 1000; of its 350 200 are on their way";
}

TEST(Donors, WhoseBalloonsFailedAreNotCountedOn) {
  OneDecision one(1000);
  OneGuest failed{.size = 1000, .share = 600, .need = 600, .claim = 600, .free = 300, .available = 300};
  failed.rests = true;
  one.add(failed);
  one.add({.size = 500, .share = 500, .need = 500, .claim = 500});
  ask_donors(one.decision);
  EXPECT_EQ(one.asked(0), 0);
  EXPECT_TRUE(one.decision.over_budget) << "it counts as it is";
}

TEST(Donors, ReservationsAreServedToo) {
  OneDecision one(1000);
  one.add({.size = 1000, .share = 600, .need = 600, .claim = 600, .free = 400, .available = 400});
  const Bytes share = 300 * kMiB;
  one.decision.reservation_shares = std::span(&share, 1);
  ask_donors(one.decision);
  EXPECT_NEAR(one.asked(0), 310, 0.01) << "and half of the headroom";
}

}  // namespace
}  // namespace balloon::policy
