// SPDX-License-Identifier: Apache-2.0
// Tables that fit: what is left out, shortened and broken, and in which order.
#include "balloond/ctl/table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "balloond/ctl/tables.h"

namespace balloon::ctl {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const std::vector<Column> kColumns{{.name = "NAME", .shorten = true},
                                   {.name = "SIZE", .right = true},
                                   {.name = "SPARE", .right = true, .rank = 1}};

std::vector<std::vector<Cell>> row(const std::string& name) { return {{{name}, {"12 MiB"}, {"1 MiB"}}}; }

TEST(TableTest, WhatIsNoTerminalGetsEverything) {
  EXPECT_EQ(lay_out(kColumns, row("a"), {}), "NAME    SIZE  SPARE\na     12 MiB  1 MiB\n");
}

TEST(TableTest, WithoutHeadingsThereAreOnlyRows) {
  EXPECT_EQ(lay_out(kColumns, row("a"), {.headings = false}), "a     12 MiB  1 MiB\n");
  EXPECT_EQ(lay_out(kColumns, {}, {.headings = false}), "");
}

TEST(TableTest, NoRowsAreAHeading) { EXPECT_EQ(lay_out(kColumns, {}, {}), "NAME  SIZE  SPARE\n"); }

TEST(TableTest, ALongNameLosesItsMiddleSoThatTheRowFits) {
  const std::string table =
      lay_out(kColumns, row(std::string(40, 'a') + "-17"), {.terminal = {.columns = 40, .rows = 24}});
  EXPECT_EQ(table, "NAME                         SIZE  SPARE\naaaaaaaaaaaa..aaaaaaaa-17  12 MiB  1 MiB\n")
      << table;
}

TEST(TableTest, AColumnThatCanBeSparedGoesBeforeANameSaysNothing) {
  const std::string table =
      lay_out(kColumns, row(std::string(40, 'a')), {.terminal = {.columns = 26, .rows = 24}});
  EXPECT_THAT(table, Not(HasSubstr("SPARE")));
  EXPECT_THAT(table, HasSubstr("aaaaaaaa..aaaaaaaa  12 MiB\n"));
}

TEST(TableTest, WideLeavesNothingOut) {
  const std::string table =
      lay_out(kColumns, row(std::string(40, 'a')), {.terminal = {.columns = 20, .rows = 24}, .wide = true});
  EXPECT_THAT(table, HasSubstr(std::string(40, 'a') + "  12 MiB  1 MiB\n"));
}

TEST(TableTest, ColoursAreThoseOfTheCells) {
  std::vector<std::vector<Cell>> rows{{{"a", "\033[31m"}, {"1"}, {"2"}}};
  EXPECT_THAT(lay_out(kColumns, rows, {.terminal = {.columns = 80, .rows = 24, .colour = true}}),
              HasSubstr("\033[31ma"));
  EXPECT_THAT(lay_out(kColumns, rows, {.terminal = {.columns = 80, .rows = 24}}), Not(HasSubstr("\033")));
}

TEST(TableTest, TextIsBrokenAtSpaces) {
  EXPECT_EQ(wrap("one two three four", 9), "one two\nthree\nfour");
  EXPECT_EQ(wrap("one two three", 12, 4), "one two\n    three");
  EXPECT_EQ(wrap("one two", 0), "one two");
  EXPECT_EQ(wrap("averylongword and more", 6), "averylongword\nand\nmore");
}

TEST(TableTest, ShortNamesStayWhole) {
  EXPECT_EQ(shorten("web-1", 16), "web-1");
  EXPECT_EQ(shorten("abcdefghij", 6), "ab..ij");
  EXPECT_EQ(shorten("abcdefghij", 3), "abc");
}

TEST(GuestTableTest, NamesAreInTheOrderInWhichPeopleCount) {
  Guests guests;
  for (const char* const name : {"web-10", "web-2", "db", "web-1"}) guests.Add()->set_name(name);
  sort_by_name(guests);
  std::vector<std::string> names;
  for (const v1::Guest& guest : guests) names.push_back(guest.name());
  EXPECT_THAT(names, ::testing::ElementsAre("db", "web-1", "web-2", "web-10"));
}

TEST(GuestTableTest, EachStateButOneThatIsNoneHasAColour) {
  const auto* const states = v1::GuestState_descriptor();
  for (int i = 1; i < states->value_count(); ++i) {
    v1::Guest guest;
    guest.set_state(static_cast<v1::GuestState>(states->value(i)->number()));
    EXPECT_NE(colour_of(guest), nullptr) << state_of(guest);
  }
}

TEST(GuestTableTest, AStateAndAReasonOfANewerDaemonAreShownAsNumbers) {
  v1::Guest guest;
  guest.set_state(static_cast<v1::GuestState>(99));
  guest.mutable_decision()->set_reason(static_cast<v1::Reason>(98));
  EXPECT_EQ(state_of(guest), "99");
  EXPECT_EQ(reason_of(guest), "98");
}

TEST(GuestTableTest, WhatIsNotKnownOfAGuestIsNotClaimed) {
  v1::Guest guest;
  guest.mutable_stats()->set_available_bytes(1);  // of long ago
  guest.mutable_decision()->set_share_bytes(1);
  const std::string details = guest_details(guest, {});
  EXPECT_THAT(details, HasSubstr("Used:           -\n"));
  EXPECT_THAT(details, HasSubstr("Need:           -\n"));
  Guests guests;
  *guests.Add() = guest;
  EXPECT_THAT(guest_table(guests, {}), ::testing::Not(HasSubstr("1 B  "))) << "what was available long ago";
}

}  // namespace
}  // namespace balloon::ctl
