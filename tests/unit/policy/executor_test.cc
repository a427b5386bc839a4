// SPDX-License-Identifier: Apache-2.0
#include "policy/executor.h"

#include <gtest/gtest.h>

#include "base/bytes.h"

namespace balloon::policy {
namespace {

GuestSnapshot guest(std::string name, Bytes actual, Bytes target) {
  GuestSnapshot guest;
  guest.name = std::move(name);
  guest.memory = 2 * kGiB;
  guest.actual = actual;
  guest.target = target;
  guest.controllable = true;
  return guest;
}

Plan plan(Bytes budget, std::vector<Bytes> targets) {
  Plan plan;
  plan.budget = budget;
  for (const Bytes target : targets) {
    plan.guests.emplace_back();
    plan.guests.back().target = target;
  }
  return plan;
}

TEST(Admit, HandsOutAGrowOnlyWhenWhatPaysForItIsFreed) {
  std::vector guests{guest("a", 2 * kGiB, 2 * kGiB), guest("b", kGiB, kGiB)};
  auto wanted = plan(3 * kGiB, {kGiB, 2 * kGiB});
  auto moves = admit(wanted, guests);
  ASSERT_EQ(moves.size(), 1U) << "nothing is freed yet: only the shrink";
  EXPECT_EQ(moves[0].guest, 0U);
  EXPECT_EQ(wanted.guests[1].reason, Reason::waiting);

  guests[0].target = kGiB;
  guests[0].actual = kGiB + 512 * kMiB;
  wanted = plan(3 * kGiB, {kGiB, 2 * kGiB});
  moves = admit(wanted, guests);
  ASSERT_EQ(moves.size(), 1U);
  EXPECT_EQ(moves[0].target, kGiB + 512 * kMiB) << "half is freed: half is granted";

  guests[0].actual = kGiB;
  guests[1].target = guests[1].actual = kGiB + 512 * kMiB;
  wanted = plan(3 * kGiB, {kGiB, 2 * kGiB});
  moves = admit(wanted, guests);
  ASSERT_EQ(moves.size(), 1U);
  EXPECT_EQ(moves[0].target, 2 * kGiB);
}

TEST(Admit, DividesWhatIsFreeByWhatEachMisses) {
  std::vector guests{guest("a", kGiB, kGiB), guest("b", kGiB, kGiB)};
  auto wanted = plan(2 * kGiB + 300 * kMiB, {kGiB + 200 * kMiB, kGiB + 400 * kMiB});
  const auto moves = admit(wanted, guests);
  ASSERT_EQ(moves.size(), 2U);
  EXPECT_EQ(moves[0].target, kGiB + 100 * kMiB);
  EXPECT_EQ(moves[1].target, kGiB + 200 * kMiB);
}

TEST(Admit, RaisesATargetUpToWhatTheGuestStillHasFreely) {
  std::vector guests{guest("a", 2 * kGiB, kGiB)};
  auto wanted = plan(Bytes{0}, {2 * kGiB});
  const auto moves = admit(wanted, guests);
  ASSERT_EQ(moves.size(), 1U);
  EXPECT_EQ(moves[0].target, 2 * kGiB);
}

TEST(Admit, HandsOutWhatAShrinkingGuestHasNotTouchedBeforeItIsFreed) {
  std::vector guests{guest("a", 2 * kGiB, kGiB), guest("b", kGiB, kGiB)};
  auto wanted = plan(3 * kGiB, {kGiB, 2 * kGiB});
  wanted.guests[0].state = GuestState::controlled;
  wanted.guests[0].untouched = 512 * kMiB;
  auto moves = admit(wanted, guests);
  ASSERT_EQ(moves.size(), 1U);
  EXPECT_EQ(moves[0].target, kGiB + 512 * kMiB);

  wanted = plan(3 * kGiB, {kGiB, 2 * kGiB});
  wanted.guests[0].state = GuestState::controlled;
  wanted.guests[0].untouched = 2 * kGiB;
  moves = admit(wanted, guests);
  ASSERT_EQ(moves.size(), 1U);
  EXPECT_EQ(moves[0].target, 2 * kGiB) << "its target is promised to it, and no more";
}

TEST(Admit, CountsWhatAGuestHasNotTouchedOnceItIsPromisedAgain) {
  std::vector guests{guest("a", 2 * kGiB, kGiB)};
  auto wanted = plan(kGiB + 256 * kMiB, {2 * kGiB});
  wanted.guests[0].state = GuestState::controlled;
  wanted.guests[0].untouched = 2 * kGiB;
  const auto moves = admit(wanted, guests);
  ASSERT_EQ(moves.size(), 1U);
  EXPECT_EQ(moves[0].target, kGiB + 256 * kMiB);
}

TEST(Admit, DoesNotCountWhatAGuestThatCannotBeMovedHasNotTouched) {
  std::vector guests{guest("a", 2 * kGiB, 2 * kGiB), guest("b", kGiB, kGiB)};
  auto wanted = plan(3 * kGiB, {2 * kGiB, 2 * kGiB});
  wanted.guests[0].state = GuestState::stuck;
  wanted.guests[0].untouched = 512 * kMiB;
  const auto moves = admit(wanted, guests);
  ASSERT_EQ(moves.size(), 1U);
  EXPECT_EQ(moves[0].target, kGiB + 512 * kMiB);
}

TEST(Admit, MovesNothingThatIsNotControllable) {
  std::vector guests{guest("a", 2 * kGiB, 2 * kGiB), guest("b", kGiB, kGiB)};
  guests[0].controllable = guests[1].controllable = false;
  auto wanted = plan(8 * kGiB, {kGiB, 2 * kGiB});
  EXPECT_TRUE(admit(wanted, guests).empty());
}

}  // namespace
}  // namespace balloon::policy
