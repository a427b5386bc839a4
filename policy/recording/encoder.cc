// SPDX-License-Identifier: Apache-2.0
#include "policy/recording/encoder.h"

#include <algorithm>

#include "policy/recording/fields.h"
#include "policy/recording/layout.h"
#include "policy/recording/tunable_fields.h"

namespace balloon::policy::recording {
namespace {

/// The place for a frame, and the kind of what is in it.
std::size_t open_frame(std::string& out, Kind kind) {
  const std::size_t start = out.size();
  out.append(kFrameSize, '\0');
  out.push_back(static_cast<char>(kind));
  return start;
}

void put_fixed64(std::string& out, std::uint64_t bits) {
  for (int shift = 0; shift < 64; shift += 8) out.push_back(static_cast<char>(bits >> shift));
}

void put_labels(std::string& out, const Labels& labels) {
  put_varint(out, labels.size());
  for (const auto& [name, value] : labels) {
    put_text(out, name);
    put_text(out, value);
  }
}

template <typename List, typename Code>
void put_list(std::string& out, const List& list, const Code& code) {
  put_varint(out, list.size());
  RowWriter row(out);
  for (const auto& element : list) code(row, element);
}

void code(RowWriter& row, const GroupLimits& now, const GroupLimits& before) { code_group(row, now, before); }
void code(RowWriter& row, const Reservation& now, const Reservation& before) {
  code_reservation(row, now, before);
}
void code(RowWriter& row, const ReservationPlan& now, const ReservationPlan& before) {
  code_grant(row, now, before);
}

/// Lists that change rarely: kept whole when they do.
template <typename T>
bool differs(const std::vector<T>& now, const std::vector<T>& before) {
  if (now.size() != before.size()) return true;
  std::string one;
  std::string other;
  RowWriter one_row(one);
  RowWriter other_row(other);
  static const T kNone{};
  for (std::size_t i = 0; i < now.size(); ++i) {
    code(one_row, now[i], kNone);
    code(other_row, before[i], kNone);
  }
  return one != other;
}

template <typename T>
void put_whole(std::string& out, const std::vector<T>& list) {
  static const T kNone{};
  put_list(out, list, [](RowWriter& row, const T& element) { code(row, element, kNone); });
}

}  // namespace

void Encoder::begin(const Start& start, std::string& out) {
  before_ = {};
  out.append(kMagic);
  put_u32(out, kVersion);
  const std::size_t frame = open_frame(out, Kind::start);
  put_fixed64(out, start.run);
  put_varint(out, start.sequence);
  put_text(out, start.version);
  close_frame(out, frame);
}

void Encoder::tunables(const Tunables& tunables, std::string& out) {
  const std::size_t frame = open_frame(out, Kind::tunables);
  each_tunable(tunables, [&](std::string_view name, const auto& value) {
    put_text(out, name);
    put_fixed64(out, as_bits(value));
  });
  close_frame(out, frame);
}

bool Encoder::tick(std::uint64_t number, std::chrono::milliseconds wall, const Snapshot& snapshot,
                   std::span<const Labels* const> labels, const Plan& plan, std::string& out) {
  static const GuestSnapshot kNewGuest;
  static const GuestPlan kNewPlan;
  const std::size_t frame = open_frame(out, Kind::tick);
  const Time at_before = before_.snapshot.now;
  const bool same_guests =
      std::ranges::equal(snapshot.guests, before_.snapshot.guests, {}, &GuestSnapshot::name,
                         &GuestSnapshot::name) &&
      std::ranges::equal(labels, before_.labels,
                         [](const Labels* now, const Labels& before) { return *now == before; });
  const Changes changes{.guests = !same_guests,
                        .groups = differs(snapshot.groups, before_.snapshot.groups),
                        .reservations = differs(snapshot.reservations, before_.snapshot.reservations),
                        .grants = differs(plan.reservations, before_.plan.reservations)};
  out.push_back(static_cast<char>(changes.bits()));
  RowWriter row(out);
  code_head(row, number, before_.number, wall, before_.wall, snapshot.now, at_before);
  stood_.resize(snapshot.guests.size());
  for (std::size_t i = 0; i < stood_.size(); ++i) stood_[i] = i;
  if (changes.guests) roster(snapshot, labels, out);
  if (changes.groups) put_whole(out, snapshot.groups);
  if (changes.reservations) put_whole(out, snapshot.reservations);
  if (changes.grants) put_whole(out, plan.reservations);
  code_host(row, snapshot.host, before_.snapshot.host);
  code_plan_head(row, plan, before_.plan);
  for (std::size_t i = 0; i < snapshot.guests.size(); ++i) {
    const bool is_new = stood_[i] == kNowhere;
    const GuestSnapshot& seen_before = is_new ? kNewGuest : before_.snapshot.guests[stood_[i]];
    code_guest(row, snapshot.guests[i], seen_before, snapshot.now, at_before);
    code_plan(row, i < plan.guests.size() ? plan.guests[i] : kNewPlan,
              is_new ? kNewPlan : before_.plan.guests[stood_[i]], snapshot.guests[i], seen_before,
              snapshot.now, at_before);
  }
  if (out.size() - frame - kFrameSize > kRecordMax) {
    out.resize(frame);
    return false;
  }
  close_frame(out, frame);
  before_.number = number;
  before_.wall = wall;
  before_.snapshot = snapshot;
  before_.plan = plan;
  before_.plan.guests.resize(snapshot.guests.size());
  if (changes.guests) {
    before_.labels.clear();
    for (const Labels* const each : labels) before_.labels.push_back(*each);
  }
  return true;
}

/// Who is there now: each guest by its place in the tick before, or by its name.
void Encoder::roster(const Snapshot& snapshot, std::span<const Labels* const> labels, std::string& out) {
  put_varint(out, snapshot.guests.size());
  std::size_t next = 0;  // both lists are sorted by name
  for (std::size_t i = 0; i < snapshot.guests.size(); ++i) {
    const std::string& name = snapshot.guests[i].name;
    const auto& before = before_.snapshot.guests;
    while (next < before.size() && before[next].name < name) ++next;
    const bool is_new = next >= before.size() || before[next].name != name;
    stood_[i] = is_new ? kNowhere : next++;
    const Labels& mine = *labels[i];
    const bool labelled = is_new ? !mine.empty() : mine != before_.labels[stood_[i]];
    put_varint(out, (is_new ? 0 : next) << 1 | (labelled ? 1 : 0));
    if (is_new) put_text(out, name);
    if (labelled) put_labels(out, mine);
  }
}

}  // namespace balloon::policy::recording
