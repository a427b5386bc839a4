// SPDX-License-Identifier: Apache-2.0
// Every field of a tick, in the order in which a recording has them, with what is to be expected of each.
// A `Coder` is a RowWriter, a RowReader or a RowComparer (rows.h); `now` is const but for the reader.
//
// What is added to policy/types.h has to be added here, or a replay would not be exact: every_field.h is for
// that.
#pragma once

#include <algorithm>
#include <string_view>

#include "policy/recording/every_field.h"
#include "policy/recording/record.h"
#include "policy/recording/rows.h"

namespace balloon::policy::recording {

/// Which of a row's optional values are there, as one number.
class Presence {
 public:
  explicit Presence(std::uint32_t bits = 0) : bits_(bits) {}
  std::uint32_t bits() const { return bits_; }

  template <typename T>
  void note(const std::optional<T>& value) {
    bits_ |= (value ? 1U : 0U) << at_++;
  }
  template <typename T>
  void make(std::optional<T>& value) {
    const bool there = (bits_ >> at_++ & 1) != 0;
    if (!there) value.reset();
    if (there && !value) value.emplace();
  }

 private:
  std::uint32_t bits_;
  unsigned at_ = 0;
};

template <typename Each>
void optionals(auto& guest, const Each& each) {
  each(guest.stats);
  each(guest.pin);
  each(guest.on_host.swap_in);
  each(guest.on_host.pressure_some);
  each(guest.on_host.refaults);
  if (!guest.stats) return;
  auto& stats = *guest.stats;
  each(stats.total);
  each(stats.available);
  each(stats.free);
  each(stats.disk_caches);
  each(stats.swap_in);
  each(stats.swap_out);
  each(stats.major_faults);
  each(stats.disk_read);
  each(stats.oom_kills);
  each(stats.alloc_stalls);
  each(stats.direct_scans);
  each(stats.direct_reclaims);
}

inline std::uint32_t presence(const GuestSnapshot& guest) {
  Presence found;
  optionals(guest, [&](const auto& value) { found.note(value); });
  return found.bits();
}

/// Codes which optional values are there; the reader makes them.
template <typename Coder, typename Guest>
void code_presence(Coder& coder, Guest& now, const GuestSnapshot& before) {
  const std::uint32_t expected = presence(before);
  if constexpr (std::is_const_v<Guest>) {
    const std::uint32_t bits = presence(now);
    coder.number(bits, expected, expected);
  } else {
    std::uint32_t bits = 0;
    coder.number(bits, expected, expected);
    Presence wanted(bits);
    optionals(now, [&](auto& value) { wanted.make(value); });
  }
}

template <typename Coder, typename T>
void number(Coder& coder, T& now, const std::remove_const_t<T>& before) {
  coder.number(now, before, before);
}
template <typename Coder, typename T>
void number_if(Coder& coder, auto& now, const std::optional<T>& before) {
  if (now) coder.number(*now, before.value_or(T{}), before.value_or(T{}));
}

/// What is expected, as it was but for what has moved from `from` to `to`: a time between the two ticks that
/// a row and the one before it are of, or a size. Wraps where that is absurd.
inline std::chrono::nanoseconds wrapped(std::chrono::nanoseconds time, std::chrono::nanoseconds from,
                                        std::chrono::nanoseconds to) {
  return std::chrono::nanoseconds(static_cast<std::int64_t>(as_bits(time) + as_bits(to) - as_bits(from)));
}
inline Bytes wrapped(Bytes size, Bytes from, Bytes to) {
  return Bytes{size.count() + to.count() - from.count()};
}

/// What most often changes comes first, so that it shares its eights.
template <typename Coder, typename Guest>
void code_guest(Coder& coder, Guest& now, const GuestSnapshot& before, Time at, Time at_before) {
  static const GuestStats kNoStats;
  coder.begin();
  code_presence(coder, now, before);
  const GuestStats& stats_before = before.stats ? *before.stats : kNoStats;
  number(coder, now.on_host.resident, before.on_host.resident);
  number(coder, now.actual, before.actual);
  number(coder, now.target, before.target);
  if (now.stats) {
    auto& stats = *now.stats;
    coder.time(stats.sampled_at, stats_before.sampled_at, wrapped(stats_before.sampled_at, at_before, at));
    number_if(coder, stats.available, stats_before.available);
    number_if(coder, stats.free, stats_before.free);
    number_if(coder, stats.disk_caches, stats_before.disk_caches);
    number_if(coder, stats.major_faults, stats_before.major_faults);
    number_if(coder, stats.disk_read, stats_before.disk_read);
    coder.number(stats.actual, stats_before.actual, now.actual);
    number_if(coder, stats.swap_in, stats_before.swap_in);
    number_if(coder, stats.swap_out, stats_before.swap_out);
    number_if(coder, stats.total, stats_before.total);
    number_if(coder, stats.alloc_stalls, stats_before.alloc_stalls);
    number_if(coder, stats.direct_scans, stats_before.direct_scans);
    number_if(coder, stats.direct_reclaims, stats_before.direct_reclaims);
    number_if(coder, stats.oom_kills, stats_before.oom_kills);
  }
  number(coder, now.on_host.swapped, before.on_host.swapped);
  number_if(coder, now.on_host.swap_in, before.on_host.swap_in);
  number_if(coder, now.on_host.refaults, before.on_host.refaults);
  if (now.on_host.pressure_some)
    coder.real(*now.on_host.pressure_some, before.on_host.pressure_some.value_or(0));
  coder.flag(now.on_host.pinned, before.on_host.pinned);
  coder.flag(now.on_host.merging, before.on_host.merging);
  coder.flag(now.controllable, before.controllable);
  if (now.pin) coder.number(now.pin->target, before.pin ? before.pin->target : Bytes{0}, now.target);
  number(coder, now.memory, before.memory);
  number(coder, now.limits.min, before.limits.min);
  coder.number(now.limits.max, before.limits.max, before.memory == Bytes{0} ? now.memory : before.limits.max);
  number(coder, now.limits.weight, before.limits.weight);
  coder.text(now.limits.group, before.limits.group);
  coder.real(now.limits.margin_factor, before.limits.margin_factor);
  coder.flag(now.limits.ksm, before.limits.ksm);
  coder.end();
}

/// Wraps, too.
inline Bytes sum_of(const NeedTerms& need) {
  return Bytes{need.used.count() + need.margin.count() + need.growth.count() + need.swapped.count() +
               need.cache.count() + need.rescue.count() + need.recent.count()};
}

/// What the guest reports as available; mostly that is what is believed.
inline Bytes reported_available(const GuestSnapshot& seen) {
  return seen.stats ? seen.stats->available.value_or(Bytes{}) : Bytes{};
}

/// A guest's plan; `seen` and `seen_before` are what it was made from and what the one before was.
template <typename Coder, typename Planned>
void code_plan(Coder& coder, Planned& now, const GuestPlan& before, const GuestSnapshot& seen,
               const GuestSnapshot& seen_before, Time at, Time at_before) {
  coder.begin();
  coder.number(now.why.available, before.why.available,
               wrapped(before.why.available, reported_available(seen_before), reported_available(seen)));
  coder.number(now.used, before.used,
               wrapped(wrapped(before.used, seen_before.actual, seen.actual), now.why.available,
                       before.why.available));
  auto& need = now.why.need;
  const NeedTerms& need_before = before.why.need;
  coder.number(need.used, need_before.used, before.used == need_before.used ? now.used : need_before.used);
  number(coder, need.margin, need_before.margin);
  number(coder, need.growth, need_before.growth);
  number(coder, need.recent, need_before.recent);
  number(coder, need.cache, need_before.cache);
  number(coder, need.swapped, need_before.swapped);
  number(coder, need.rescue, need_before.rescue);
  coder.number(now.need, before.need, wrapped(before.need, sum_of(need_before), sum_of(need)));
  coder.number(now.share, before.share, before.share == before.need ? now.need : before.share);
  coder.number(now.target, before.target,
               before.target == seen_before.target ? seen.target
               : before.target == before.share     ? now.share
                                                   : before.target);
  coder.number(now.untouched, before.untouched,
               wrapped(before.untouched, std::min(before.untouched, seen.on_host.resident),
                       std::min(before.untouched, seen_before.on_host.resident)));
  coder.name(now.reason, before.reason, Reason::surplus);
  const std::chrono::nanoseconds age =
      seen.stats ? std::max(Time{}, wrapped(at, seen.stats->sampled_at, Time{})) : before.why.age;
  coder.time(now.why.age, before.why.age, age);
  auto& otherwise = now.why.otherwise;
  const Alternative& otherwise_before = before.why.otherwise;
  coder.name(otherwise.condition, otherwise_before.condition, Condition::pin);
  coder.number(otherwise.target, otherwise_before.target,
               otherwise_before.target == before.need    ? now.need
               : otherwise_before.target == before.share ? now.share
                                                         : otherwise_before.target);
  number(coder, otherwise.amount, otherwise_before.amount);
  coder.time(otherwise.wait, otherwise_before.wait,
             otherwise_before.wait == Time{} ? Time{} : wrapped(otherwise_before.wait, at, at_before));
  coder.name(now.state, before.state, GuestState::disconnected);
  coder.name(now.why.source, before.why.source, Source::host);
  coder.name(now.why.trust, before.why.trust, Trust::stale);
  coder.name(now.why.pressure, before.why.pressure, Pressure::critical);
  coder.name(now.why.signal, before.why.signal, Signal::host_pressure);
  coder.end();
}

template <typename Coder, typename Host>
void code_host(Coder& coder, Host& now, const HostSnapshot& before) {
  static const KsmSnapshot kNoKsm;
  coder.begin();
  number(coder, now.free, before.free);
  coder.number(now.available, before.available, wrapped(before.available, before.free, now.free));
  number(coder, now.swap_free, before.swap_free);
  number(coder, now.swap_in, before.swap_in);
  number(coder, now.swap_out, before.swap_out);
  coder.real(now.pressure_some, before.pressure_some);
  coder.real(now.pressure_full, before.pressure_full);
  number(coder, now.arc, before.arc);
  number(coder, now.total, before.total);
  number(coder, now.swap_total, before.swap_total);
  bool has_ksm = now.ksm.has_value();
  coder.flag(has_ksm, before.ksm.has_value());
  if constexpr (!std::is_const_v<Host>) {
    if (has_ksm != now.ksm.has_value()) now.ksm = has_ksm ? std::optional<KsmSnapshot>(kNoKsm) : std::nullopt;
  }
  if (now.ksm) {
    auto& ksm = *now.ksm;
    const KsmSnapshot& ksm_before = before.ksm ? *before.ksm : kNoKsm;
    number(coder, ksm.shared, ksm_before.shared);
    number(coder, ksm.sharing, ksm_before.sharing);
    number(coder, ksm.unshared, ksm_before.unshared);
    number(coder, ksm.pages_to_scan, ksm_before.pages_to_scan);
    coder.time(ksm.sleep, ksm_before.sleep, ksm_before.sleep);
    coder.flag(ksm.running, ksm_before.running);
    coder.flag(ksm.controllable, ksm_before.controllable);
  }
  coder.end();
}

/// What a plan says of the host.
template <typename Coder, typename Planned>
void code_plan_head(Coder& coder, Planned& now, const Plan& before) {
  static const KsmPlan kNoKsm;
  coder.begin();
  number(coder, now.budget, before.budget);
  coder.name(now.state, before.state, HostState::emergency);
  coder.name(now.level, before.level, HostState::emergency);
  bool has_ksm = now.ksm.has_value();
  coder.flag(has_ksm, before.ksm.has_value());
  if constexpr (!std::is_const_v<Planned>) {
    if (has_ksm != now.ksm.has_value()) now.ksm = has_ksm ? std::optional<KsmPlan>(kNoKsm) : std::nullopt;
  }
  if (now.ksm) {
    auto& ksm = *now.ksm;
    const KsmPlan& ksm_before = before.ksm ? *before.ksm : kNoKsm;
    number(coder, ksm.pages_to_scan, ksm_before.pages_to_scan);
    coder.time(ksm.sleep, ksm_before.sleep, ksm_before.sleep);
    coder.flag(ksm.run, ksm_before.run);
  }
  coder.end();
}

template <typename Coder, typename Planned>
void code_grant(Coder& coder, Planned& now, const ReservationPlan& before) {
  coder.begin();
  coder.text(now.id, before.id);
  coder.name(now.state, before.state, GrantState::denied);
  number(coder, now.granted, before.granted);
  coder.end();
}

template <typename Coder, typename Group>
void code_group(Coder& coder, Group& now, const GroupLimits& before) {
  coder.begin();
  coder.text(now.name, before.name);
  number(coder, now.min, before.min);
  number(coder, now.max, before.max);
  number(coder, now.weight, before.weight);
  coder.end();
}

template <typename Coder, typename Wanted>
void code_reservation(Coder& coder, Wanted& now, const Reservation& before) {
  coder.begin();
  coder.text(now.id, before.id);
  number(coder, now.min, before.min);
  number(coder, now.max, before.max);
  number(coder, now.priority, before.priority);
  coder.time(now.deadline, before.deadline, before.deadline);
  number(coder, now.granted, before.granted);
  coder.end();
}

}  // namespace balloon::policy::recording
