// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/other_hands.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/unit/balloond/guests/registry_fixture.h"

namespace balloon::daemon {
namespace {

using OtherHandsTest = RegistryTest;

TEST_F(OtherHandsTest, ABalloonThatSomebodyElseMovesIsContested) {
  const Session session = join();
  guests_.balloon(session, balloon(900 * kMiB, 900 * kMiB));
  EXPECT_FALSE(guests_.find("a")->contest) << "it is on its way to what was asked before this daemon came";
  reach(session, 800 * kMiB);
  EXPECT_FALSE(guests_.find("a")->contest);
  guests_.balloon(session, balloon(700 * kMiB, 700 * kMiB));
  const auto contest = guests_.find("a")->contest;
  ASSERT_TRUE(contest);
  EXPECT_EQ(contest->from, 800 * kMiB);
  EXPECT_EQ(contest->to, 700 * kMiB);
  EXPECT_EQ(guests_.find("a")->target, 700 * kMiB) << "what it has is what counts";
  clock_.advance(std::chrono::seconds(5));
  guests_.balloon(session, balloon(600 * kMiB, 600 * kMiB));
  EXPECT_EQ(guests_.find("a")->contest->since, contest->since);
  EXPECT_GT(guests_.find("a")->contest->noticed, contest->noticed) << "it was moved again";
  EXPECT_EQ(guests_.find("a")->contests, 2U);
  reach(session, 800 * kMiB);
  EXPECT_FALSE(guests_.find("a")->contest) << "it is ours again";
}

TEST_F(OtherHandsTest, ABalloonThatHasOurTargetAgainIsNoLongerContested) {
  const Session session = join();
  reach(session, 800 * kMiB);
  guests_.balloon(session, balloon(700 * kMiB, 700 * kMiB));
  guests_.balloon(session, balloon(750 * kMiB, 750 * kMiB));
  ASSERT_TRUE(guests_.find("a")->contest);
  EXPECT_EQ(guests_.find("a")->contest->from, 800 * kMiB) << "ours, not where it was a moment ago";
  guests_.balloon(session, balloon(800 * kMiB, 800 * kMiB));
  EXPECT_FALSE(guests_.find("a")->contest);
  EXPECT_EQ(guests_.find("a")->target, 800 * kMiB);
  guests_.balloon(session, balloon(600 * kMiB, 600 * kMiB));
  EXPECT_TRUE(guests_.find("a")->contest) << "it may be moved again";
}

TEST_F(OtherHandsTest, ABalloonThatRestsWhereADaemonBeforeLeftItIsOurs) {
  const Session session = join();
  for (int i = 0; i < 2; ++i) guests_.stats(session, test::sample(2 * kGiB, kGiB, 300 * kMiB));
  guests_.balloon(session, balloon(700 * kMiB, 700 * kMiB));
  EXPECT_TRUE(guests_.find("a")->contest);
}

TEST_F(OtherHandsTest, ABalloonThatWasNotSeenToRestWhereItIsWantedIsNotOursYet) {
  const auto sample = [](policy::Bytes actual) { return test::sample(2 * kGiB, actual, 300 * kMiB); };
  const std::vector<std::vector<policy::Bytes>> histories{
      {kGiB}, {900 * kMiB, kGiB}, {kGiB, 900 * kMiB}, {900 * kMiB, 900 * kMiB}};
  for (const auto& history : histories) {
    const Session session = join();
    for (const policy::Bytes actual : history) guests_.stats(session, sample(actual));
    guests_.balloon(session, balloon(700 * kMiB, 700 * kMiB));
    EXPECT_FALSE(guests_.find("a")->contest) << testing::PrintToString(history);
    guests_.left(session);
  }
  const Session session = join();
  guests_.balloon(session, balloon(kGiB, kGiB, false));
  for (int i = 0; i < 2; ++i) guests_.stats(session, sample(kGiB));
  guests_.balloon(session, balloon(700 * kMiB, 700 * kMiB));
  EXPECT_FALSE(guests_.find("a")->contest) << "its driver was down";
}

TEST_F(OtherHandsTest, AContestGoesOnWhenItsGuestIsBackAndEndsWithOurNextTarget) {
  Session session = join();
  reach(session, 800 * kMiB);
  guests_.balloon(session, balloon(700 * kMiB, 700 * kMiB));
  guests_.left(session);
  session = join();
  ASSERT_TRUE(guests_.find("a")->contest);
  EXPECT_EQ(guests_.find("a")->contest->from, 800 * kMiB);
  EXPECT_EQ(guests_.find("a")->contests, 1U);
  ASSERT_TRUE(guests_.set_target("a", session, 600 * kMiB));
  EXPECT_FALSE(guests_.find("a")->contest);
}

TEST_F(OtherHandsTest, ATargetOfBeforeThatComesLateIsNobodyElses) {
  const Session session = join();
  ASSERT_TRUE(guests_.set_target("a", session, 800 * kMiB));
  guests_.answered(session, Request::Kind::target, channel_->asked.back().sequence, "");
  guests_.balloon(session, balloon(kGiB, kGiB));
  EXPECT_FALSE(guests_.find("a")->contest);
}

TEST_F(OtherHandsTest, AGuestThatRebootsOrCannotBeMovedIsNotContested) {
  const Session session = join();
  reach(session, 800 * kMiB);
  BalloonState paused = balloon(700 * kMiB, 700 * kMiB);
  paused.obstacle = "it does not run: paused";
  guests_.balloon(session, paused);
  EXPECT_FALSE(guests_.find("a")->contest);
  guests_.balloon(session, balloon(2 * kGiB, 2 * kGiB, false));
  guests_.balloon(session, balloon(2 * kGiB, 2 * kGiB));
  EXPECT_FALSE(guests_.find("a")->contest);
}

TEST_F(OtherHandsTest, ABalloonThatGivesWayToAGuestOutOfMemoryIsNotContested) {
  const Session session = join();
  const auto grow = [&](policy::Bytes available) {
    reach(session, 800 * kMiB);
    BalloonState grown = balloon(900 * kMiB, 900 * kMiB);
    grown.deflate_on_oom = true;
    guests_.balloon(session, grown);
    EXPECT_FALSE(guests_.find("a")->contest) << "its next statistics tell";
    EXPECT_FALSE(guests_.set_target("a", session, 800 * kMiB)) << "and nothing is taken before they do";
    guests_.stats(session, test::sample(2 * kGiB, 900 * kMiB, available));
    return guests_.find("a")->contest.has_value();
  };
  EXPECT_FALSE(grow(10 * kMiB)) << "it has nothing left";
  EXPECT_FALSE(grow(300 * kMiB)) << "it had nothing left";
  EXPECT_TRUE(grow(300 * kMiB)) << "it has, and had, much";
  EXPECT_TRUE(grow(900 * kMiB / 8)) << "an eighth is not nearly nothing";
  EXPECT_TRUE(grow(300 * kMiB)) << "nor was it";
}

TEST_F(OtherHandsTest, AContestNamesTheControllersThatMoveBalloonsOnThisHost) {
  tree_.write("/proc/812/comm", "momd\n");
  tree_.write("/proc/813/comm", "ksmtuned\n");
  const Session session = join();
  reach(session, 800 * kMiB);
  guests_.refresh();
  guests_.balloon(session, balloon(700 * kMiB, 700 * kMiB));
  EXPECT_FALSE(guests_.find("a")->contest->suspects) << "not looked for yet";
  guests_.refresh();
  EXPECT_EQ(guests_.find("a")->contest->suspects, "momd (process 812)") << "ksmtuned moves none";
}

TEST_F(OtherHandsTest, APinEndsAContest) {
  const Session session = join();
  reach(session, 800 * kMiB);
  guests_.balloon(session, balloon(700 * kMiB, 700 * kMiB));
  ASSERT_TRUE(guests_.find("a")->contest);
  ASSERT_TRUE(guests_.set_pin("a", kGiB, std::chrono::seconds(60)));
  EXPECT_FALSE(guests_.find("a")->contest) << "a person has decided since";
}

}  // namespace
}  // namespace balloon::daemon
