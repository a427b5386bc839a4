// SPDX-License-Identifier: Apache-2.0
#include "policy/recording/fields.h"
#include "policy/recording/record.h"
#include "policy/recording/tunable_fields.h"

namespace balloon::policy::recording {

bool same(const GuestPlan& one, const GuestPlan& other) {
  static const GuestSnapshot kNothing;  // what is expected plays no part here
  RowComparer row;
  code_plan(row, one, other, kNothing, kNothing, {}, {});
  return row.same() && one.name == other.name;
}

bool same(const Plan& one, const Plan& other) {
  RowComparer row;
  code_plan_head(row, one, other);
  if (!row.same() || one.guests.size() != other.guests.size() ||
      one.reservations.size() != other.reservations.size()) {
    return false;
  }
  for (std::size_t i = 0; i < one.reservations.size(); ++i)
    code_grant(row, one.reservations[i], other.reservations[i]);
  if (!row.same()) return false;
  return std::ranges::equal(one.guests, other.guests,
                            [](const GuestPlan& a, const GuestPlan& b) { return same(a, b); });
}

bool same(const Tunables& one, const Tunables& other) {
  std::vector<std::uint64_t> values;
  each_tunable(one, [&](std::string_view, const auto& value) { values.push_back(as_bits(value)); });
  std::size_t at = 0;
  bool all = true;
  each_tunable(other, [&](std::string_view, const auto& value) { all &= values[at++] == as_bits(value); });
  return all;
}

}  // namespace balloon::policy::recording
