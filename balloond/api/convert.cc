// SPDX-License-Identifier: Apache-2.0
#include "balloond/api/convert.h"

#include "balloond/guests/wire.h"
#include "policy/explain.h"

namespace balloon::daemon {
namespace {

void set_time(google::protobuf::Timestamp& out, WallTime time) {
  const auto nanos = std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
  out.set_seconds(nanos / 1'000'000'000);
  out.set_nanos(static_cast<std::int32_t>(nanos % 1'000'000'000));
}

void set_ksm(v1::Host& host, const policy::KsmSnapshot& seen, const KsmFigures& more) {
  host.set_ksm_saved_bytes(seen.sharing.count());
  v1::Ksm& out = *host.mutable_ksm();
  out.set_running(seen.running);
  out.set_controllable(seen.controllable);
  out.set_shared_bytes(seen.shared.count());
  out.set_unshared_bytes(seen.unshared.count());
  out.set_volatile_bytes(more.changing.count());
  out.set_full_scans(more.full_scans);
  out.set_pages_to_scan(seen.pages_to_scan);
  out.mutable_sleep()->set_seconds(seen.sleep.count() / 1'000'000'000);
  out.mutable_sleep()->set_nanos(static_cast<std::int32_t>(seen.sleep.count() % 1'000'000'000));
  if (more.profit) out.set_profit_bytes(*more.profit);
}

void set_needs(v1::Needs& out, const NeedFigures& needs) {
  out.mutable_observed()->set_seconds(needs.observed.count());
  out.set_p95_bytes(needs.p95.count());
  out.set_p99_bytes(needs.p99.count());
  out.set_max_bytes(needs.max.count());
}

// control/guest_state.h and policy/types.h mirror these enums value for value.
static_assert(static_cast<int>(Reason::need) == v1::REASON_NEED);
static_assert(static_cast<int>(Reason::booting) == v1::REASON_BOOTING);
static_assert(kReasons.size() == v1::Reason_ARRAYSIZE);
static_assert(static_cast<int>(GuestState::booting) == v1::GUEST_STATE_BOOTING);
static_assert(static_cast<int>(GuestState::contested) == v1::GUEST_STATE_CONTESTED);
static_assert(kGuestStates.size() == v1::GuestState_ARRAYSIZE);
static_assert(static_cast<int>(policy::HostState::normal) == v1::HOST_STATE_NORMAL);
static_assert(static_cast<int>(policy::HostState::infeasible) == v1::HOST_STATE_INFEASIBLE);
static_assert(static_cast<int>(policy::HostState::emergency) == v1::HOST_STATE_EMERGENCY);

}  // namespace

v1::Guest to_proto(const GuestStatus& guest, const State& state) {
  const GuestRecord& record = guest.record;
  v1::Guest out;
  out.set_name(record.name);
  out.mutable_labels()->insert(record.labels.begin(), record.labels.end());
  out.set_state(static_cast<v1::GuestState>(state_of(guest)));
  out.set_memory_bytes(record.memory.count());
  out.set_min_bytes(guest.limits.min.count());
  out.set_max_bytes(guest.limits.max.count());
  out.set_weight(guest.limits.weight);
  out.set_target_bytes(record.target.count());
  out.set_actual_bytes(record.balloon.actual.count());
  out.set_resident_bytes(record.on_host.resident.count());
  out.set_swapped_bytes(record.on_host.swapped.count());
  if (record.said) to_wire(*record.said, *out.mutable_stats());
  v1::Decision& decision = *out.mutable_decision();
  set_time(*decision.mutable_decided_at(), state.wall);
  if (policy::knows_use(guest.plan)) decision.set_used_bytes(guest.plan.used.count());
  if (policy::knows_need(guest.plan)) decision.set_need_bytes(guest.plan.need.count());
  decision.set_share_bytes(guest.plan.share.count());
  decision.set_target_bytes(guest.plan.target.count());
  decision.set_reason(static_cast<v1::Reason>(reason_of(guest)));
  decision.set_explanation(explain(guest, state));
  if (record.pin) set_time(*out.mutable_pinned_until(), record.pin->until);
  out.set_pid(record.peer.pid);
  if (record.merging) out.set_merging(*record.merging);
  out.set_merging_refusal(record.merging_refusal);
  out.set_hypervisor(record.hypervisor);
  out.set_obstacle(record.balloon.obstacle);
  to_wire(record.can, *out.mutable_capabilities());
  if (guest.contested_until) {
    v1::Contest& contest = *out.mutable_contested();
    set_time(*contest.mutable_noticed_at(), record.contest->noticed_wall);
    contest.set_from_bytes(record.contest->from.count());
    contest.set_to_bytes(record.contest->to.count());
    const auto left = std::chrono::duration_cast<WallTime::duration>(*guest.contested_until - state.at);
    set_time(*contest.mutable_until(), state.wall + left);
  }
  out.set_paused(record.balloon.paused);
  return out;
}

v1::Host host_to_proto(const State& state) {
  const policy::HostSnapshot& memory = state.host.memory;
  v1::Host out;
  set_time(*out.mutable_sampled_at(), state.wall);
  out.set_total_bytes(memory.total.count());
  out.set_free_bytes(memory.free.count());
  out.set_available_bytes(memory.available.count());
  out.set_arc_bytes(memory.arc.count());
  out.set_swap_total_bytes(memory.swap_total.count());
  out.set_swap_free_bytes(memory.swap_free.count());
  out.set_swap_in_bytes(memory.swap_in.count());
  out.set_swap_out_bytes(memory.swap_out.count());
  out.set_pressure_some_ratio(memory.pressure_some);
  out.set_pressure_full_ratio(memory.pressure_full);
  if (memory.ksm) set_ksm(out, *memory.ksm, state.host.ksm);
  out.set_reserve_bytes(state.reserve.count());
  out.set_budget_bytes(state.budget.count());
  out.set_committed_bytes(state.committed.count());
  out.set_configured_bytes(state.configured.count());
  out.set_state(static_cast<v1::HostState>(state.host_state));
  out.set_reserved_bytes(state.reserved.count());
  out.set_explanation(explain_host(state));
  out.set_not_applied(state.not_applied);
  return out;
}

namespace {

v1::ReservationState state_of(ReservationOutcome::Kind ended, bool granted) {
  switch (ended) {
    case ReservationOutcome::Kind::joined:
      return granted ? v1::RESERVATION_STATE_CONSUMED : v1::RESERVATION_STATE_DENIED;
    case ReservationOutcome::Kind::released:
      return v1::RESERVATION_STATE_RELEASED;
    case ReservationOutcome::Kind::lapsed:
      return v1::RESERVATION_STATE_EXPIRED;
    default:
      return v1::RESERVATION_STATE_DENIED;
  }
}

}  // namespace

v1::Reservation reservation_to_proto(const ReservationRecord& record) {
  const bool granted = record.is_granted();
  v1::Reservation out;
  out.set_id(record.wish.id);
  out.set_min_bytes(record.wish.min.count());
  out.set_max_bytes(record.wish.max.count());
  out.set_priority(record.wish.priority);
  out.set_state(record.committed ? v1::RESERVATION_STATE_COMMITTED
                : granted        ? v1::RESERVATION_STATE_GRANTED
                                 : v1::RESERVATION_STATE_PENDING);
  out.set_granted_bytes(record.granted.count());
  set_time(*out.mutable_deadline(), record.deadline_wall);
  if (granted) set_time(*out.mutable_lease_until(), record.lease_until);
  out.set_owner(record.wish.owner);
  return out;
}

v1::Reservation ended_to_proto(const EndedReservation& ended) {
  const ReservationOutcome& outcome = ended.outcome;
  v1::Reservation out = reservation_to_proto(outcome.record);
  out.set_state(state_of(outcome.kind, outcome.record.is_granted()));
  out.set_reason(outcome.reason);
  set_time(*out.mutable_ended_at(), ended.at_wall);
  return out;
}

v1::GuestNeeds needs_to_proto(const std::string& name, const NeedsByWindow& needs, const GuestStatus* guest) {
  v1::GuestNeeds out;
  out.set_name(name);
  if (guest != nullptr) {
    out.set_memory_bytes(guest->record.memory.count());
    out.set_min_bytes(guest->limits.min.count());
  }
  const auto& [day, week, month] = needs;
  if (day.observed.count() > 0) set_needs(*out.mutable_day(), day);
  if (week.observed.count() > 0) set_needs(*out.mutable_week(), week);
  if (month.observed.count() > 0) set_needs(*out.mutable_month(), month);
  return out;
}

void add_day(v1::GuestNeeds& guest, Day day, const NeedFigures& needs) {
  v1::DayOfNeeds& out = *guest.add_days();
  set_time(*out.mutable_day(), day);
  set_needs(*out.mutable_needs(), needs);
}

}  // namespace balloon::daemon
