// SPDX-License-Identifier: Apache-2.0
#include "balloond/needs/need_files.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>

#include "balloond/needs/need_keeper.h"
#include "tests/unit/balloond/needs/need_fixture.h"

namespace balloon::daemon {
namespace {

using namespace std::chrono_literals;
using test::kDayWindow;
using test::kGiB;
using test::kMiB;
using test::kMonthWindow;

/// As many sizes as there are, and as much time as a day has.
NeedHistogram fullest_day() {
  NeedHistogram needs;
  for (std::uint16_t size = 0; size < NeedHistogram::kSizes; ++size)
    needs.add(NeedHistogram::bound(size), NeedHistory::kSecondsOfDay / NeedHistogram::kSizes);
  return needs;
}

TEST(NeedFileTest, AGuestTakesAtMostAKibibyteADayWhateverItDoes) {
  DayOfNeeds day{.day = Day(std::chrono::days(20'000))};
  const std::size_t empty = write_needs(day).size();
  day.guests.emplace(std::string(64, 'x'), fullest_day());
  EXPECT_LE(write_needs(day).size() - empty, 1024U);
  NeedHistogram usual;
  for (std::uint64_t size = 400; size < 600; ++size) usual.add(size * kMiB, 432);
  day.guests = {{"web-1", usual}};
  EXPECT_LE(write_needs(day).size() - empty, 64U) << "one that needs about the same all day";
}

TEST(NeedFileTest, WhatIsWrittenIsReadAgain) {
  DayOfNeeds day{.day = Day(std::chrono::days(20'000))};
  day.guests.emplace("a", fullest_day());
  day.guests["b"].add(kGiB, 17);
  const auto read = read_needs(write_needs(day));
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->day, day.day);
  EXPECT_EQ(read->guests, day.guests);
}

TEST(NeedFileTest, WhatIsDamagedIsRefusedAndHarmsNothing) {
  DayOfNeeds day{.day = Day(std::chrono::days(20'000))};
  day.guests.emplace("a", fullest_day());
  const std::string good = write_needs(day);
  for (std::size_t size = 0; size < good.size(); size += 7) {
    const auto read = read_needs(good.substr(0, size));
    EXPECT_TRUE(!read || read->guests != day.guests) << "of its first " << size << " bytes";
  }
  for (std::size_t at = 0; at < good.size(); ++at) {
    std::string bad = good;
    bad[at] = static_cast<char>(~bad[at]);
    const auto read = read_needs(bad);
    EXPECT_TRUE(!read || read->guests.size() <= 1U) << "byte " << at;
  }
  day.guests = {{"../../etc/passwd", fullest_day()}};
  EXPECT_FALSE(read_needs(write_needs(day))) << "that is no guest's name";
}

class NeedKeeperTest : public test::NeedsTest {
 protected:
  /// One daemon's life: what it lives through, and how it ends.
  struct Life {
    Life(const Clock& clock, const std::string& directory)
        : history(clock), keeper(clock, history, directory) {
      keeper.turn();
    }
    NeedHistory history;
    NeedKeeper keeper;
  };
  void live(Life& life, std::chrono::minutes time, const std::vector<test::Needing>& guests) {
    for (std::chrono::minutes gone{}; gone < time; ++gone) {
      NeedsTest::live(life.history, 1min, guests);
      life.keeper.turn();
    }
  }
  std::string directory() const { return tree_.root() + "/needs"; }
  std::vector<std::string> files() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(directory()))
      names.push_back(entry.path().filename().string());
    std::ranges::sort(names);
    return names;
  }

  test::FakeTree tree_;
};

TEST_F(NeedKeeperTest, ADaemonThatIsKilledLosesFiveMinutesAtMost) {
  until_midnight();
  {
    Life killed(clock_, directory());
    live(killed, 63min, {{"a", kGiB}});
  }  // nothing is written at its end
  Life next(clock_, directory());
  const auto observed = needs_of(next.history, "a")[kDayWindow].observed;
  EXPECT_GE(observed, 57min);
  live(next, 10min, {{"a", 2 * kGiB}});
  Life last(clock_, directory());
  EXPECT_GT(needs_of(last.history, "a")[kDayWindow].observed, observed) << "a day goes on where it was";
  EXPECT_EQ(needs_of(last.history, "a")[kDayWindow].max, 2 * kGiB);
}

TEST_F(NeedKeeperTest, FourHundredDaysOutliveTheDaemonAndNoMoreAreKept) {
  until_midnight();
  {
    Life life(clock_, directory());
    for (int day = 0; day < 410; ++day) {
      NeedsTest::live(life.history, 1min, {{"a", kGiB}});
      NeedsTest::live(life.history, 3min, {{"a", kGiB}, {"b", 3 * kGiB}});
      clock_.advance(24h);
      life.keeper.turn();
    }
  }
  EXPECT_EQ(files().size(), NeedHistory::kDays);
  Life next(clock_, directory());
  const auto days = next.history.days_of("a");
  EXPECT_EQ(days.size(), NeedHistory::kDays);
  EXPECT_EQ(days.front().second.p99, kGiB);
  EXPECT_EQ(needs_of(next.history, "b")[kMonthWindow].p95, 3 * kGiB);
  EXPECT_EQ(needs_of(next.history, "b")[kMonthWindow].observed, 30 * 3min) << "and none of today";
}

TEST_F(NeedKeeperTest, ADamagedDayIsSetAsideAndTheOthersAreRead) {
  until_midnight();
  {
    Life life(clock_, directory());
    live(life, 10min, {{"a", kGiB}});
    until_midnight();
    live(life, 10min, {{"a", 2 * kGiB}});
  }
  ASSERT_EQ(files().size(), 2U);
  const std::string newest = files().back();
  std::ofstream(directory() + "/" + newest) << "nonsense";
  Life next(clock_, directory());
  EXPECT_EQ(needs_of(next.history, "a")[kMonthWindow].max, kGiB);
  EXPECT_THAT(files(), testing::Contains(newest + ".damaged"));
  live(next, 10min, {{"a", 2 * kGiB}});
  EXPECT_THAT(files(), testing::Contains(newest)) << "the day goes on in a new file";
}

TEST_F(NeedKeeperTest, ADiskThatTakesNothingIsSaidAndTriedAgain) {
  std::ofstream(directory()) << "a file is in the way";
  Life life(clock_, directory());
  live(life, 6min, {{"a", kGiB}});
  EXPECT_TRUE(life.keeper.failing());
  EXPECT_GT(needs_of(life.history, "a")[kDayWindow].observed, 4min) << "it is known all the same";
  std::filesystem::remove(directory());
  live(life, 6min, {{"a", kGiB}});
  EXPECT_FALSE(life.keeper.failing());
  EXPECT_EQ(files().size(), 1U);
}

TEST_F(NeedKeeperTest, WithoutADirectoryNothingIsKeptAndFiguresAreThereAllTheSame) {
  Life life(clock_, "");
  live(life, 10min, {{"a", kGiB}});
  EXPECT_EQ(needs_of(life.history, "a")[kDayWindow].p95, kGiB);
  EXPECT_FALSE(life.keeper.failing());
}

}  // namespace
}  // namespace balloon::daemon
