// SPDX-License-Identifier: Apache-2.0
// The screen of `balloonctl top`, drawn without a terminal.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "balloond/ctl/top/screen.h"

namespace balloon::ctl::top {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::uint64_t kMiB = 1 << 20;
constexpr std::uint64_t kGiB = 1 << 30;

v1::Guest guest(const std::string& name, std::uint64_t actual, std::uint64_t available) {
  v1::Guest out;
  out.set_name(name);
  out.set_state(v1::GUEST_STATE_CONTROLLED);
  out.set_memory_bytes(2 * kGiB);
  out.set_min_bytes(kGiB / 2);
  out.set_max_bytes(2 * kGiB);
  out.set_actual_bytes(actual);
  out.set_target_bytes(actual);
  out.mutable_stats()->set_available_bytes(available);
  out.mutable_decision()->set_used_bytes(actual - available);
  out.mutable_decision()->set_reason(v1::REASON_NEED);
  out.mutable_decision()->set_explanation("it gets all that it needs");
  return out;
}

v1::WatchGuestsResponse state(std::int64_t second, const std::vector<v1::Guest>& guests) {
  v1::WatchGuestsResponse out;
  out.set_revision(static_cast<std::uint64_t>(second));
  out.mutable_host()->mutable_sampled_at()->set_seconds(second);
  out.mutable_host()->set_state(v1::HOST_STATE_NORMAL);
  out.mutable_host()->set_total_bytes(8 * kGiB);
  for (const v1::Guest& each : guests) *out.add_guests() = each;
  return out;
}

std::vector<std::string> names(const Model& model) {
  std::vector<std::string> out;
  for (const v1::Guest* each : model.guests()) out.push_back(each->name());
  return out;
}

std::string text(const Model& model, Size size) {
  std::string out;
  for (const Line& line : draw(model, size)) out += text_of(line) + '\n';
  return out;
}

TEST(TopTest, ABarHasUsedAvailableAndBalloonWithMinimumAndTarget) {
  v1::Guest half = guest("a", kGiB, kGiB / 4);
  EXPECT_EQ(bar(half, 18), "[####|#==........]");
  half.set_target_bytes(kGiB * 3 / 4);
  EXPECT_EQ(bar(half, 18), "[####|#<=........]") << "on its way down";
  half.set_target_bytes(kGiB * 3 / 2);
  EXPECT_EQ(bar(half, 18), "[####|#==....>...]") << "and up";
  half.clear_stats();
  half.set_target_bytes(kGiB);
  EXPECT_EQ(bar(half, 18), "[????|???........]") << "what it uses is not known";
}

TEST(TopTest, GuestsAreSortedAndFiltered) {
  Model model;
  v1::Guest labelled = guest("db", 2 * kGiB, kGiB);
  (*labelled.mutable_labels())["tier"] = "data";
  model.take(state(1, {guest("web-10", kGiB, 100 * kMiB), guest("web-2", kGiB, 500 * kMiB), labelled}));
  EXPECT_THAT(names(model), ElementsAre("db", "web-2", "web-10"));
  model.sort = Sort::available;
  EXPECT_THAT(names(model), ElementsAre("db", "web-2", "web-10")) << "the largest first";
  model.reverse = true;
  EXPECT_THAT(names(model), ElementsAre("web-10", "web-2", "db"));
  model.filter = "web";
  EXPECT_THAT(names(model), ElementsAre("web-10", "web-2"));
  model.filter = "tier=data";
  EXPECT_THAT(names(model), ElementsAre("db"));
}

TEST(TopTest, TheSelectionStaysWithItsGuest) {
  Model model;
  model.take(state(1, {guest("a", kGiB, 0), guest("b", kGiB, 0), guest("c", kGiB, 0)}));
  model.select(1);
  EXPECT_EQ(model.selected()->name(), "b");
  model.take(state(2, {guest("b", kGiB, 0), guest("c", kGiB, 0)}));
  EXPECT_EQ(model.selected()->name(), "b");
  model.select(100);
  EXPECT_EQ(model.selected()->name(), "c");
  model.take(state(3, {guest("b", kGiB, 0)}));
  EXPECT_EQ(model.selected()->name(), "b") << "its guest is gone: the first";
}

TEST(TopTest, AMinuteIsRememberedOneSampleASecond) {
  Model model;
  for (std::int64_t second = 1; second <= 100; ++second) {
    model.take(state(second, {guest("a", kGiB, 0)}));
    model.take(state(second, {guest("a", 2 * kGiB, 0)}));  // again within the second
  }
  const Past* const past = model.past("a");
  ASSERT_EQ(past->samples.size(), Model::kSeconds);
  EXPECT_EQ(past->samples.back().actual, 2 * kGiB) << "the newest of the second";
  EXPECT_EQ(history(past->samples, &Sample::actual, 2 * kGiB), std::string(60, '@'));
  model.take(state(101, {}));
  EXPECT_EQ(model.past("a"), nullptr);
}

TEST(TopTest, TheLastChangeIsToldWithItsReasonAndAge) {
  Model model;
  v1::Guest moving = guest("a", kGiB, 0);
  model.take(state(1, {moving}));
  EXPECT_THAT(text(model, {.columns = 120, .rows = 24}), HasSubstr(" need\n")) << "none was seen yet";
  moving.set_target_bytes(kGiB / 2);
  moving.mutable_decision()->set_reason(v1::REASON_RATE_LIMIT);
  model.take(state(2, {moving}));
  moving.mutable_decision()->set_reason(v1::REASON_HOLD);
  model.take(state(9, {moving}));
  EXPECT_THAT(text(model, {.columns = 120, .rows = 24}), HasSubstr(" rate_limit 7s\n"));
}

TEST(TopTest, EveryScreenFitsItsTerminal) {
  Model model;
  std::vector<v1::Guest> guests;
  for (int i = 0; i < 300; ++i)
    guests.push_back(guest("guest-" + std::string(50, 'x') + std::to_string(i), kGiB, 0));
  model.take(state(1, guests));
  for (const bool detail : {false, true}) {
    model.detail = detail;
    for (const unsigned columns : {20U, 40U, 80U, 200U}) {
      for (const unsigned rows : {2U, 10U, 24U, 50U}) {
        const auto lines = draw(model, {.columns = columns, .rows = rows});
        EXPECT_EQ(lines.size(), rows) << columns;
        for (const Line& line : lines) EXPECT_LE(text_of(line).size(), columns) << text_of(line);
      }
    }
  }
}

TEST(TopTest, AllGuestsAreThereWhereThereAreNoRows) {
  Model model;
  std::vector<v1::Guest> guests;
  for (int i = 0; i < 300; ++i) guests.push_back(guest("g" + std::to_string(i), kGiB, 0));
  model.take(state(1, guests));
  EXPECT_THAT(text(model, {.columns = 80, .rows = 0}), HasSubstr("\ng299 "));
}

}  // namespace
}  // namespace balloon::ctl::top
