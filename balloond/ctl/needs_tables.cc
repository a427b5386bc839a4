// SPDX-License-Identifier: Apache-2.0
// What guests needed, as tables: one row a guest, or one a day of one guest.
#include <fmt/format.h>

#include "balloond/ctl/json.h"
#include "balloond/ctl/tables.h"

namespace balloon::ctl {
namespace {

constexpr const char* kUnknown = "-";

Cell size_or_dash(bool has, std::uint64_t bytes) { return {.text = has ? format_size(bytes) : kUnknown}; }

/// "3 h", "12 min": how much of a span was seen.
std::string time_of(const google::protobuf::Duration& duration) {
  const auto seconds = duration.seconds();
  constexpr std::int64_t kMinute = 60;
  constexpr std::int64_t kHour = 60 * kMinute;
  constexpr std::int64_t kDay = 24 * kHour;
  if (seconds >= 2 * kDay) return fmt::format("{} d", seconds / kDay);
  if (seconds >= 2 * kHour) return fmt::format("{} h", seconds / kHour);
  if (seconds >= 2 * kMinute) return fmt::format("{} min", seconds / kMinute);
  return fmt::format("{} s", seconds);
}

void add_percentiles(std::vector<Cell>& row, bool has, const v1::Needs& needs) {
  row.push_back(size_or_dash(has, needs.p95_bytes()));
  row.push_back(size_or_dash(has, needs.p99_bytes()));
}

void add_day_row(std::vector<std::vector<Cell>>& rows, const std::string& when, const v1::Needs& needs) {
  rows.push_back({{.text = when},
                  {.text = format_size(needs.p95_bytes())},
                  {.text = format_size(needs.p99_bytes())},
                  {.text = format_size(needs.max_bytes())},
                  {.text = time_of(needs.observed())}});
}

}  // namespace

std::string needs_table(const Needs& guests, const Look& look) {
  std::vector<Column> columns{{.name = "GUEST", .shorten = true},
                              {.name = "MEMORY", .right = true},
                              {.name = "MIN", .right = true, .rank = 1},
                              {.name = "DAY P95", .right = true, .rank = 3},
                              {.name = "DAY P99", .right = true},
                              {.name = "WEEK P95", .right = true, .rank = 4},
                              {.name = "WEEK P99", .right = true, .rank = 2},
                              {.name = "MONTH P95", .right = true, .rank = 5},
                              {.name = "MONTH P99", .right = true}};
  if (look.wide) {
    columns.push_back({.name = "MONTH MAX", .right = true});
    columns.push_back({.name = "SEEN", .right = true});
  }
  std::vector<std::vector<Cell>> rows;
  for (const v1::GuestNeeds& guest : guests) {
    std::vector<Cell>& row =
        rows.emplace_back(std::vector<Cell>{{.text = guest.name()},
                                            size_or_dash(guest.has_memory_bytes(), guest.memory_bytes()),
                                            size_or_dash(guest.has_min_bytes(), guest.min_bytes())});
    add_percentiles(row, guest.has_day(), guest.day());
    add_percentiles(row, guest.has_week(), guest.week());
    add_percentiles(row, guest.has_month(), guest.month());
    if (!look.wide) continue;
    row.push_back(size_or_dash(guest.has_month(), guest.month().max_bytes()));
    row.push_back({.text = guest.has_month() ? time_of(guest.month().observed()) : kUnknown});
  }
  return lay_out(std::move(columns), std::move(rows), look);
}

std::string days_table(const v1::GuestNeeds& guest, const Look& look) {
  std::vector<std::vector<Cell>> rows;
  if (guest.has_day()) add_day_row(rows, "last day", guest.day());
  if (guest.has_week()) add_day_row(rows, "last week", guest.week());
  if (guest.has_month()) add_day_row(rows, "last month", guest.month());
  constexpr std::size_t kDate = 10;  // of 2026-11-29T00:00:00.000Z
  for (const v1::DayOfNeeds& each : guest.days())
    add_day_row(rows, format_time(each.day().seconds(), 0).substr(0, kDate), each.needs());
  return lay_out({{.name = "WHEN"},
                  {.name = "P95", .right = true},
                  {.name = "P99", .right = true},
                  {.name = "MAX", .right = true},
                  {.name = "SEEN", .right = true}},
                 std::move(rows), look);
}

}  // namespace balloon::ctl
