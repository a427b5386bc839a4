// SPDX-License-Identifier: Apache-2.0
#include "policy/recording/decoder.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "policy/recording/fields.h"
#include "policy/recording/tunable_fields.h"

namespace balloon::policy::recording {
namespace {

template <typename T>
bool take_bits(std::uint64_t bits, T& out) {
  if constexpr (std::is_same_v<T, bool>) {
    out = bits == 1;
    return bits <= 1;
  } else if constexpr (std::is_same_v<T, Surplus>) {
    out = static_cast<Surplus>(bits);
    return bits <= static_cast<std::uint64_t>(Surplus::wanted);
  } else if constexpr (std::is_same_v<T, double>) {
    out = std::bit_cast<double>(bits);
    return true;
  } else if constexpr (std::is_same_v<T, std::chrono::nanoseconds>) {
    out = std::chrono::nanoseconds(static_cast<std::int64_t>(bits));
    return true;
  } else {
    out = static_cast<T>(bits);
    return as_bits(out) == bits;
  }
}

/// Whether there is a tunable of that name, and `bits` can be its value.
bool set_tunable(Tunables& tunables, std::string_view name, std::uint64_t bits) {
  bool known = false;
  each_tunable(tunables, [&](std::string_view each, auto& member) {
    if (each == name) known = take_bits(bits, member);
  });
  return known;
}

/// A tunable that is left out would be today's default, whatever it was then.
Result<void> check_all_named(std::vector<std::string_view> named) {
  std::ranges::sort(named);
  std::string missing;
  const Tunables tunables;
  each_tunable(tunables, [&](std::string_view each, const auto& /*value*/) {
    if (missing.empty() && !std::ranges::binary_search(named, each)) missing = each;
  });
  if (missing.empty()) return {};
  return fail(fmt::format("the tunable '{}' is missing: an older balloond has recorded this", missing));
}

void take_labels(Input& in, Labels& out) {
  out.clear();
  const std::size_t count = in.count(2);
  if (count > kLabelsMax) return in.spoil();
  for (std::size_t i = 0; i < count && in.good(); ++i) {
    std::string name(in.text());
    out.insert_or_assign(std::move(name), std::string(in.text()));
  }
}

template <typename T>
void take_whole(Input& in, std::vector<T>& out, void (*code)(RowReader&, T&, const T&)) {
  static const T kNone{};
  const std::size_t count = in.count();
  out.clear();
  if (count > kGuestsMax) return in.spoil();
  RowReader row(in);
  for (std::size_t i = 0; i < count && in.good(); ++i) code(row, out.emplace_back(), kNone);
}

}  // namespace

Result<std::uint32_t> version_in(std::string_view header) {
  if (header.size() < kHeaderSize || !header.starts_with(kMagic))
    return fail("it is no recording of balloond");
  return get_u32(header.data() + kMagic.size());
}

Error another_version(std::uint32_t version, std::string_view recorded_by) {
  return {fmt::format(
      "it has version {} of the format, this program reads version {}: replay it with the balloon-sim "
      "of the balloond that recorded it{}{}, or record anew",
      version, kVersion, recorded_by.empty() ? "" : ", ", recorded_by.substr(0, 64))};
}

void Decoder::reset() { *this = {}; }

Result<Kind> Decoder::read(std::string_view payload) {
  Input in(payload);
  const auto kind = static_cast<Kind>(in.byte());
  switch (kind) {
    case Kind::start:
      read_start(in);
      break;
    case Kind::tunables:
      BALLOON_TRY(read_tunables(in));
      break;
    case Kind::tick:
      read_tick(in);
      break;
    default:
      return fail(fmt::format("there is no record of kind {}", static_cast<unsigned>(kind)));
  }
  if (!in.good() || !in.at_end()) return fail("the record does not say what it should");
  return kind;
}

void Decoder::read_start(Input& in) {
  start_.run = in.fixed64();
  start_.sequence = in.varint();
  start_.version = in.text();
}

Result<void> Decoder::read_tunables(Input& in) {
  tunables_ = {};
  std::vector<std::string_view> named;
  while (in.good() && !in.at_end()) {
    const std::string_view name = in.text();
    const std::uint64_t bits = in.fixed64();
    if (!in.good()) break;
    if (!set_tunable(tunables_, name, bits)) {
      return fail(
          fmt::format("the tunable '{}' is not known, or has an impossible value: a newer balloond "
                      "has recorded this",
                      name.substr(0, 64)));
    }
    named.push_back(name);
  }
  return check_all_named(std::move(named));
}

void Decoder::read_tick(Input& in) {
  static const GuestSnapshot kNewGuest;
  static const GuestPlan kNewPlan;
  std::swap(tick_, before_);
  const Time at_before = before_.snapshot.now;
  const Changes changes = Changes::of(in.byte());
  RowReader row(in);
  code_head(row, tick_.number, before_.number, tick_.wall, before_.wall, tick_.snapshot.now, at_before);
  if (changes.guests) {
    read_roster(in);
  } else {
    tick_.labels = before_.labels;
    tick_.snapshot.guests.resize(before_.snapshot.guests.size());
    stood_.resize(before_.snapshot.guests.size());
    for (std::size_t i = 0; i < stood_.size(); ++i) {
      stood_[i] = i;
      tick_.snapshot.guests[i].name = before_.snapshot.guests[i].name;
    }
  }
  tick_.snapshot.groups = before_.snapshot.groups;
  tick_.snapshot.reservations = before_.snapshot.reservations;
  tick_.plan.reservations = before_.plan.reservations;
  if (changes.groups) {
    take_whole<GroupLimits>(in, tick_.snapshot.groups,
                            [](auto& coder, auto& now, const auto& none) { code_group(coder, now, none); });
  }
  if (changes.reservations) {
    take_whole<Reservation>(in, tick_.snapshot.reservations, [](auto& coder, auto& now, const auto& none) {
      code_reservation(coder, now, none);
    });
  }
  if (changes.grants) {
    take_whole<ReservationPlan>(in, tick_.plan.reservations, [](auto& coder, auto& now, const auto& none) {
      code_grant(coder, now, none);
    });
  }
  code_host(row, tick_.snapshot.host, before_.snapshot.host);
  code_plan_head(row, tick_.plan, before_.plan);
  tick_.plan.guests.resize(tick_.snapshot.guests.size());
  for (std::size_t i = 0; i < tick_.snapshot.guests.size() && in.good(); ++i) {
    const bool is_new = stood_[i] == kNowhere;
    GuestSnapshot& seen = tick_.snapshot.guests[i];
    const GuestSnapshot& seen_before = is_new ? kNewGuest : before_.snapshot.guests[stood_[i]];
    code_guest(row, seen, seen_before, tick_.snapshot.now, at_before);
    tick_.plan.guests[i].name = seen.name;
    code_plan(row, tick_.plan.guests[i], is_new ? kNewPlan : before_.plan.guests[stood_[i]], seen,
              seen_before, tick_.snapshot.now, at_before);
  }
}

void Decoder::read_roster(Input& in) {
  auto& guests = tick_.snapshot.guests;
  // Each is a byte here, and two rows of at least a byte.
  const std::size_t count = in.count(3);
  guests.resize(count > kGuestsMax ? 0 : count);
  tick_.labels.resize(guests.size());
  stood_.assign(guests.size(), kNowhere);
  if (count > kGuestsMax) return in.spoil();
  std::uint64_t last = 0;
  for (std::size_t i = 0; i < count && in.good(); ++i) {
    const std::uint64_t from = in.varint();
    const bool labelled = (from & 1) != 0;
    const std::uint64_t place = from >> 1;
    // In order, and so nobody twice: else a few bytes could stand for any number of copies.
    if (place > before_.snapshot.guests.size() || (place != 0 && place <= last)) return in.spoil();
    if (place != 0) last = place;
    if (place == 0) {
      guests[i].name = in.text();
      tick_.labels[i].clear();
    } else {
      stood_[i] = static_cast<std::size_t>(place - 1);
      guests[i].name = before_.snapshot.guests[stood_[i]].name;
      tick_.labels[i] = before_.labels[stood_[i]];
    }
    if (labelled) take_labels(in, tick_.labels[i]);
  }
}

}  // namespace balloon::policy::recording
