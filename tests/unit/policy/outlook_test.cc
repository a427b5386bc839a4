// SPDX-License-Identifier: Apache-2.0
// What an outlook says of a reservation is what the engine makes of it in the same decision.
#include "policy/outlook.h"

#include <gtest/gtest.h>

#include <optional>

#include "random_host.h"

namespace balloon::policy {
namespace {

using std::chrono::seconds;

/// A host that was decided on twice in the same way: the last decision without a wish, and with it.
struct Twins {
  FakeHost host;
  Engine without{Tunables{}};
  Engine with{Tunables{}};

  void step(const std::vector<Move>& moves) {
    for (const Move& move : moves) host.guests[move.guest].seen.target = move.target;
    host.settle(seconds(1));
  }
};

/// Whether a guest was on its way up: that it is not any more frees memory in this decision.
bool gives_up_growing(const Snapshot& seen, const Plan& plan) {
  for (std::size_t i = 0; i < seen.guests.size(); ++i) {
    const GuestSnapshot& guest = seen.guests[i];
    if (guest.target > guest.actual && plan.guests[i].target < guest.target) return true;
  }
  return false;
}

TEST(OutlookTest, WhatAnArcHoldsIsNotOfferedToReservations) {
  FakeHost host = RandomHost(1).make(Bytes{2}, 2);
  Snapshot seen = host.snapshot();
  seen.host.available = Bytes{0};
  Engine plain{Tunables{}};
  plain.decide(seen);
  const Supply without = plain.outlook(seen).supply;
  seen.host.arc = kGiB;
  Engine engine{Tunables{}};
  const Plan plan = engine.decide(seen);
  const Supply with = engine.outlook(seen).supply;
  EXPECT_EQ(plan.budget, without.budget + kGiB) << "guests may have it";
  EXPECT_EQ(with.budget, without.budget);
  EXPECT_EQ(with.free, without.free);
}

TEST(OutlookTest, WhatFitsIsWhatIsNotDeniedAndWhoIsSqueezedIsWhoseShareFalls) {
  constexpr std::uint64_t kHosts = kSanitized ? 200 : 4000;
  std::uint64_t fits[4] = {};
  for (std::uint64_t seed = 1; seed <= kHosts; ++seed) {
    RandomHost random(seed);
    Twins twins{.host = random.make(Bytes{0}, 12)};
    for (std::uint64_t tick = random.between(0, 25); tick > 0; --tick) {
      random.live(twins.host);
      const Snapshot seen = twins.host.snapshot();
      Plan plan = twins.without.decide(seen);
      ASSERT_EQ(plan, twins.with.decide(seen));
      twins.step(admit(plan, seen.guests));
    }
    Snapshot seen = twins.host.snapshot();
    const Plan before = twins.without.decide(seen);
    const Outlook outlook = twins.without.outlook(seen);
    const Bytes min = random.between(Bytes{1}, random.one_in(2) ? 8 * kGiB : outlook.most() + kMiB);
    const Bytes max = min + (random.one_in(2) ? Bytes{0} : random.between(Bytes{0}, 4 * kGiB));
    const auto priority = static_cast<std::uint32_t>(random.between(1, 1000));
    const auto within = seconds(random.between(0, 60));
    FitCheck check(outlook);
    const FitAnswer other = check.check(2 * min, 2 * max, priority, within);
    const FitAnswer answer = check.check(min, max, priority, within);
    EXPECT_LE(answer.fit == Fit::no, other.fit == Fit::no) << "what is smaller fits where the larger does";

    seen.reservations.push_back({"the wish", min, max, priority, seen.now + within});
    const Plan after = twins.with.decide(seen);
    const ReservationPlan& wish = after.reservations.back();
    ++fits[static_cast<std::size_t>(answer.fit)];
    ASSERT_EQ(answer.fit == Fit::no, wish.state == GrantState::denied) << "seed " << seed;
    if (answer.fit == Fit::no) continue;
    if (answer.fit == Fit::after_reclaim && !gives_up_growing(seen, after)) {
      EXPECT_LT(wish.granted, min) << "seed " << seed;
    }
    std::vector<std::optional<Bytes>> then(seen.guests.size());
    for (const Squeeze& each : answer.squeezed) {
      EXPECT_EQ(each.from, before.guests[each.guest].share) << "seed " << seed;
      EXPECT_EQ(each.to, after.guests[each.guest].share) << "seed " << seed;
      then[each.guest] = each.to;
    }
    for (std::size_t i = 0; i < then.size(); ++i) {
      if (then[i] || outlook.givers[i].speed == 0) continue;
      EXPECT_GE(after.guests[i].share, before.guests[i].share) << "seed " << seed << " guest " << i;
    }
  }
  for (const std::uint64_t each : fits)
    EXPECT_GT(each, kHosts / 200) << "each answer is among those that were tried";
}

TEST(OutlookTest, WhatIsFreeIsGrantedByTheSameDecisionWhereNobodyPresses) {
  FakeHost host(16 * kGiB);
  Engine engine{{}};
  for (int i = 0; i < 4; ++i) host.add(2 * kGiB, 300 * kMiB, {256 * kMiB, 2 * kGiB});
  for (int i = 0; i < 60; ++i) host.step(engine);
  host.step(engine);
  const Outlook outlook = engine.outlook(host.snapshot());
  ASSERT_GT(outlook.supply.free, 4 * kGiB);
  EXPECT_EQ(FitCheck(outlook).check(4 * kGiB, 4 * kGiB, 100, seconds(10)).fit, Fit::now);
  host.reservations.push_back({"b", 4 * kGiB, 4 * kGiB, 100, host.now + seconds(10)});
  EXPECT_EQ(host.step(engine).reservations.at(0).state, GrantState::granted);
  const Outlook later = engine.outlook(host.snapshot());
  EXPECT_EQ(later.promised(), 4 * kGiB);
  EXPECT_LE(later.most() + later.guaranteed() + later.promised(), later.supply.budget);
}

TEST(OutlookTest, WhatCanBeReclaimedIsWithoutWhatProgramsUseAndWithinTheBalloonsSpeed) {
  FakeHost host(8 * kGiB);
  Engine engine{{}};
  for (int i = 0; i < 3; ++i) host.add(2 * kGiB, 500 * kMiB, {256 * kMiB, 2 * kGiB}).speed = 16 * kMiB;
  host.step(engine);
  const Outlook outlook = engine.outlook(host.snapshot());
  const Bytes soon = outlook.reclaimable(seconds(1));
  const Bytes later = outlook.reclaimable(seconds(30));
  EXPECT_GT(soon, Bytes{0});
  EXPECT_LE(soon, later);
  EXPECT_LE(later, 3 * (2 * kGiB - 500 * kMiB));
  host.guests[0].seen.on_host.pinned = true;
  host.step(engine);
  EXPECT_LT(engine.outlook(host.snapshot()).reclaimable(seconds(30)), later) << "pinned memory frees nothing";
}

}  // namespace
}  // namespace balloon::policy
