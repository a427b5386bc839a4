// SPDX-License-Identifier: Apache-2.0
#include "balloond/needs/need_history.h"

#include <fmt/format.h>

#include "tests/unit/balloond/needs/need_fixture.h"

namespace balloon::daemon {
namespace {

using namespace std::chrono_literals;
using test::kDayWindow;
using test::kGiB;
using test::kMonthWindow;
using test::kWeekWindow;

class NeedHistoryTest : public test::NeedsTest {
 protected:
  NeedHistory history_{clock_};
};

TEST_F(NeedHistoryTest, TheTimeBetweenTwoDecisionsCountsForWhatWasNeededThen) {
  observe(history_, {{"a", kGiB}});
  EXPECT_EQ(needs_of(history_, "a")[kDayWindow].observed, 0s) << "one decision is no time";
  for (int i = 0; i < 10; ++i) {
    clock_.advance(500ms);
    observe(history_, {{"a", kGiB}});
  }
  const NeedFigures day = needs_of(history_, "a")[kDayWindow];
  EXPECT_EQ(day.observed, 5s);
  EXPECT_EQ(day.p95, kGiB);
  EXPECT_EQ(day.max, kGiB);
}

TEST_F(NeedHistoryTest, AGapOfTheDaemonIsNotTakenForANeed) {
  observe(history_, {{"a", kGiB}});
  clock_.advance(8h);
  observe(history_, {{"a", kGiB}});
  EXPECT_EQ(needs_of(history_, "a")[kDayWindow].observed, 60s);
}

TEST_F(NeedHistoryTest, AGuestWhoseDriverSaysNothingNeedsNothingThatIsKnown) {
  State state;
  GuestStatus silent = guest({"a", kGiB});
  silent.plan.why.source = policy::Source::host;
  GuestStatus gone = guest({"b", kGiB});
  gone.record.connected = false;
  state.guests = {silent, gone};
  for (int i = 0; i < 3; ++i) {
    clock_.advance(10s);
    state.at = clock_.now();
    state.wall = clock_.wall();
    history_.observe(state);
  }
  history_.renew();
  EXPECT_TRUE(history_.figures()->empty());
}

TEST_F(NeedHistoryTest, WindowsAreTheLastDayWeekAndMonth) {
  until_midnight();
  live(history_, 24h, {{"a", 8 * kGiB}});   // 20 days ago
  live(history_, 16 * 24h, {{"a", kGiB}});  // until 4 days ago
  live(history_, 24h, {{"a", 4 * kGiB}});
  live(history_, 3 * 24h, {{"a", 2 * kGiB}});
  const NeedsByWindow needs = needs_of(history_, "a");
  EXPECT_EQ(needs[kDayWindow].p99, 2 * kGiB);
  EXPECT_EQ(needs[kDayWindow].max, 2 * kGiB);
  EXPECT_EQ(needs[kWeekWindow].max, 4 * kGiB);
  EXPECT_EQ(needs[kWeekWindow].p95, 4 * kGiB) << "for a seventh of the week";
  EXPECT_EQ(needs[kMonthWindow].max, 8 * kGiB);
  EXPECT_EQ(needs[kMonthWindow].p95, 4 * kGiB) << "a day of 21 is less than 5 % of the time";
  EXPECT_EQ(needs[kMonthWindow].p99, 8 * kGiB);
  EXPECT_EQ(needs[kMonthWindow].observed, 21 * 24h - 1min) << "less the first decision";
}

TEST_F(NeedHistoryTest, FourHundredDaysAreThereDayByDay) {
  until_midnight();
  for (int day = 0; day < 450; ++day) live(history_, 24h, {{"a", (1 + day % 4) * kGiB}});
  const auto days = history_.days_of("a");
  EXPECT_GE(days.size(), NeedHistory::kDays);
  EXPECT_LE(days.size(), NeedHistory::kDays + 32) << "old ones go";
  EXPECT_TRUE(std::ranges::is_sorted(days, {}, &std::pair<Day, NeedFigures>::first));
  std::size_t four = 0;
  for (const auto& [day, needs] : days) {
    EXPECT_LE(needs.observed, 24h);
    four += needs.p95 == 4 * kGiB ? 1 : 0;
  }
  EXPECT_NEAR(static_cast<double>(four), static_cast<double>(days.size()) / 4, 2);
}

TEST_F(NeedHistoryTest, WhatWasKeptAndWhatHasComeSinceAreOneDay) {
  live(history_, 60min, {{"a", kGiB}});
  const auto kept = history_.take_changed();
  ASSERT_EQ(kept.size(), 1U);
  EXPECT_TRUE(history_.take_changed().empty()) << "nothing has changed since";
  NeedHistory next(clock_);
  live(next, 30min, {{"a", 2 * kGiB}});
  next.restore(kept.front());
  const NeedFigures day = needs_of(next, "a")[kDayWindow];
  EXPECT_EQ(day.observed, 88min) << "less the first decision of each";
  EXPECT_EQ(day.max, 2 * kGiB);
}

TEST_F(NeedHistoryTest, ADayThatCouldNotBeKeptIsTakenAgain) {
  live(history_, 2min, {{"a", kGiB}});
  const auto taken = history_.take_changed();
  ASSERT_EQ(taken.size(), 1U);
  history_.not_kept(taken.front().day);
  EXPECT_EQ(history_.take_changed().size(), 1U);
}

TEST_F(NeedHistoryTest, NamesThatComeAndGoDoNotPushOutGuestsThatStay) {
  until_midnight();
  live(history_, 60min, {{"resident", kGiB}});
  for (int i = 0; i < 6000; ++i) {
    clock_.advance(1s);
    observe(history_, {{fmt::format("hostile-{}", i), kGiB}, {"resident", kGiB}});
  }
  const auto kept = history_.take_changed();
  for (const DayOfNeeds& each : kept) EXPECT_LE(each.guests.size(), NeedHistory::kGuestsOfDay);
  EXPECT_GT(needs_of(history_, "resident")[kDayWindow].observed, 2h);
}

TEST_F(NeedHistoryTest, NamesOfManyDaysAreBoundedInMemory) {
  for (int day = 0; day < 4; ++day) {
    until_midnight();
    std::vector<test::Needing> guests{{"resident", kGiB}};
    for (std::size_t i = 0; i + 1 < NeedHistory::kGuestsOfDay; ++i)
      guests.push_back({fmt::format("day-{}-{}", day, i), kGiB});
    // One newcomer a decision has room made for it, once all places are taken.
    live(history_, std::chrono::minutes(day < 2 ? 3 : 5), guests);
  }
  history_.renew();
  EXPECT_LE(history_.figures()->size(), NeedHistory::kGuests);
  EXPECT_GT(needs_of(history_, "resident")[kMonthWindow].observed, 8min);
}

TEST_F(NeedHistoryTest, AClockThatIsSetBackMakesNoDayEndless) {
  until_midnight();
  State state;
  state.guests = {guest({"a", kGiB})};
  state.wall = clock_.wall() + 1h;  // it stands still
  for (int i = 0; i < 3 * 24 * 60; ++i) {
    clock_.advance(60s);
    state.at = clock_.now();
    history_.observe(state);
  }
  EXPECT_LE(history_.days_of("a").front().second.observed,
            std::chrono::seconds(NeedHistory::kSecondsOfDay + 60));
}

}  // namespace
}  // namespace balloon::daemon
