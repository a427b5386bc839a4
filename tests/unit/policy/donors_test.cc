#include "policy/donors.h"

#include <gtest/gtest.h>

#include "one_decision.h"

namespace balloon::policy {
namespace {

/// A guest with 400 MiB beyond its share (100 free, 200 of page cache, 100 of programs), and one that needs
/// 700 MiB, claims 900 and has 500.
class DonorAndTaker : public OneDecision {
 public:
  explicit DonorAndTaker(Bytes budget_mib) : OneDecision(budget_mib) {
    add({.size = 1000, .share = 600, .need = 600, .claim = 600, .free = 100, .available = 300});
    add({.size = 500, .share = 900, .need = 700, .claim = 900});
    ask_donors(decision);
  }
};

double asked_of_donor(Bytes budget_mib) { return DonorAndTaker(budget_mib).asked(0); }

TEST(Donors, AreAskedForNothingWhileEverythingFits) { EXPECT_EQ(asked_of_donor(4000), 0); }

TEST(Donors, GiveOnlyWhatIsFreeInThemForOthersClaims) {
  EXPECT_NEAR(asked_of_donor(1800), 100, 0.01) << "1900 MiB are claimed, 1700 needed";
}

TEST(Donors, GivePageCacheTooForOthersNeeds) {
  EXPECT_NEAR(asked_of_donor(1500), 200, 0.01) << "of the 1700 MiB that are needed 200 are missing";
}

TEST(Donors, AreAskedToRefillHalfOfTheHeadroom) {
  EXPECT_NEAR(asked_of_donor(1920), 28, 0.01) << "48 MiB should be free, and 20 are";
}

TEST(Donors, SayWhetherMemoryIsAwaited) {
  for (const auto& [budget, awaited] : {std::pair{Bytes{1901}, false}, {Bytes{1899}, true}}) {
    EXPECT_EQ(DonorAndTaker(budget).decision.memory_awaited, awaited) << budget;
  }
}

TEST(Donors, LeaveForWhatIsBeyondClaimsThePartThatIsFree) {
  OneDecision one(1000);
  one.add({.size = 300, .share = 700, .need = 300, .claim = 300});
  one.add({.size = 500, .share = 500, .need = 500, .claim = 500});
  ask_donors(one.decision);
  EXPECT_NEAR(one.decision.surplus_ratio, 0.5, 1e-9) << "200 MiB are free of the 400 that are wished for";
}

}  // namespace
}  // namespace balloon::policy
