// SPDX-License-Identifier: Apache-2.0
// That no field is forgotten: what the policy sees, says and is tuned by is all recorded. A field that is
// added to one of these types makes this file fail to compile. Record it, in fields.h or tunable_fields.h,
// and then name it here: what is in a file is then a new version of the format (wire.h).
#pragma once

#include "policy/tunables.h"
#include "policy/types.h"

namespace balloon::policy::recording {

// A structured binding has to name every field of its type, whatever its size.
inline void every_field_of(const GuestStats& value) {
  [[maybe_unused]] const auto& [sampled_at, actual, total, available, free, disk_caches, swap_in, swap_out,
                                major_faults, disk_read, oom_kills, alloc_stalls, direct_scans,
                                direct_reclaims] = value;
}
inline void every_field_of(const GuestOnHost& value) {
  [[maybe_unused]] const auto& [resident, swapped, swap_in, pressure_some, refaults, pinned, merging] = value;
}
inline void every_field_of(const GuestLimits& value) {
  [[maybe_unused]] const auto& [min, max, weight, group, margin_factor, ksm] = value;
}
inline void every_field_of(const GroupLimits& value) {
  [[maybe_unused]] const auto& [name, min, max, weight] = value;
}
inline void every_field_of(const Reservation& value) {
  [[maybe_unused]] const auto& [id, min, max, priority, deadline, granted] = value;
}
inline void every_field_of(const Pin& value) { [[maybe_unused]] const auto& [target] = value; }
inline void every_field_of(const GuestSnapshot& value) {
  [[maybe_unused]] const auto& [name, memory, limits, actual, target, on_host, controllable, stats, pin] =
      value;
}
inline void every_field_of(const KsmSnapshot& value) {
  [[maybe_unused]] const auto& [running, shared, sharing, unshared, pages_to_scan, sleep, controllable] =
      value;
}
inline void every_field_of(const HostSnapshot& value) {
  [[maybe_unused]] const auto& [total, free, available, swap_total, swap_free, swap_in, swap_out,
                                pressure_some, pressure_full, ksm, arc] = value;
}
inline void every_field_of(const Snapshot& value) {
  [[maybe_unused]] const auto& [now, host, guests, groups, reservations] = value;
}
inline void every_field_of(const NeedTerms& value) {
  [[maybe_unused]] const auto& [used, margin, growth, swapped, cache, rescue, recent] = value;
}
inline void every_field_of(const Alternative& value) {
  [[maybe_unused]] const auto& [condition, target, amount, wait] = value;
}
inline void every_field_of(const Explanation& value) {
  [[maybe_unused]] const auto& [source, trust, pressure, signal, age, available, need, otherwise] = value;
}
inline void every_field_of(const GuestPlan& value) {
  [[maybe_unused]] const auto& [name, state, used, need, share, target, untouched, reason, why] = value;
}
inline void every_field_of(const ReservationPlan& value) {
  [[maybe_unused]] const auto& [id, state, granted] = value;
}
inline void every_field_of(const KsmPlan& value) {
  [[maybe_unused]] const auto& [run, pages_to_scan, sleep] = value;
}
inline void every_field_of(const Plan& value) {
  [[maybe_unused]] const auto& [state, level, budget, guests, reservations, ksm] = value;
}
inline void every_field_of(const HostStateRules& value) {
  [[maybe_unused]] const auto& [minimum_free, normal, tight, critical, emergency] = value;
}
inline void every_field_of(const StateActions& value) {
  [[maybe_unused]] const auto& [shrink_ratio_per_second, margin_factor, pressed_give, ksm, full_speed] =
      value;
}
inline void every_field_of(const HostStateActions& value) {
  [[maybe_unused]] const auto& [normal, tight, critical, emergency] = value;
}
inline void every_field_of(const Constants& value) {
  [[maybe_unused]] const auto& [elapsed_max, margin_factor_max, growth_now_ratio, fast_growth_ratio,
                                working_set_cache_ratio, working_set_room_max, cache_step,
                                doubted_cache_ratio, critical_size_ratio, killed_growth, killed_half_life,
                                killed_fall_ratio, read_ahead, swap_trickle_per_second, wanted_half_life,
                                critical_max, little_free_factor, balloon_batch, more_to_give_factor,
                                more_to_give_min, speed_gain, failures_max, headroom_refill_ratio,
                                pressed_deadband_ratio, cache_grow_ratio, touched_soon_ratio, last_moment,
                                foretold_max, reserve_kept_min, own_rise_ratio, own_half_life,
                                own_steady_after, reserve_half_life, leave_ratio, swap_half_life, ksm_sleep,
                                ksm_pages_min, ksm_pages_max, ksm_pages_step, ksm_vain_ratio, ksm_vain_slower,
                                ksm_vain_after_ratio, ksm_stop_factor] = value;
}
inline void every_field_of(const Tunables& value) {
  [[maybe_unused]] const auto& [host_reserve, reserve_kept_ratio, budget_rise_ratio_per_second, margin_ratio,
                                margin_min, growth_horizon, pressure_ratio, pressure_swap_in,
                                pressure_major_faults, pressure_alloc_stalls, pressure_direct_scans,
                                pressure_host_some, pressure_host_refaults, critical_ratio, critical_growth,
                                oom_memory, need_half_life, peak_window, swapped_half_life, cache_half_life,
                                untouched_ratio, untouched_min, doubt_after, doubt_cache_ratio, margin_low,
                                deadband_ratio, deadband_min, shrink_ratio_per_second, hold, hold_growth,
                                hold_max, headroom_ratio, stale_after, stuck_after, progress_per_second,
                                retry_after, retry_max, blind_after, balloon_speed, surplus, states, actions,
                                swap_tight, swap_critical, pressure_tight, pressure_critical, ksm_credit,
                                ksm_ratio, ksm_scan, ksm_scan_critical, constants] = value;
}

}  // namespace balloon::policy::recording
