// SPDX-License-Identifier: Apache-2.0
// Every number of the law by its name, for recordings. Names are kept rather than places, so that a reader
// says which one it lacks or does not know.
#pragma once

#include "policy/recording/every_field.h"
#include "policy/tunables.h"

namespace balloon::policy::recording {

template <typename Each>
void each_constant(auto& constants, const Each& each) {
  each("constants.elapsed_max", constants.elapsed_max);
  each("constants.margin_factor_max", constants.margin_factor_max);
  each("constants.growth_now_ratio", constants.growth_now_ratio);
  each("constants.fast_growth_ratio", constants.fast_growth_ratio);
  each("constants.working_set_cache_ratio", constants.working_set_cache_ratio);
  each("constants.working_set_room_max", constants.working_set_room_max);
  each("constants.cache_step", constants.cache_step);
  each("constants.doubted_cache_ratio", constants.doubted_cache_ratio);
  each("constants.critical_size_ratio", constants.critical_size_ratio);
  each("constants.killed_growth", constants.killed_growth);
  each("constants.killed_half_life", constants.killed_half_life);
  each("constants.killed_fall_ratio", constants.killed_fall_ratio);
  each("constants.read_ahead", constants.read_ahead);
  each("constants.swap_trickle_per_second", constants.swap_trickle_per_second);
  each("constants.wanted_half_life", constants.wanted_half_life);
  each("constants.critical_max", constants.critical_max);
  each("constants.little_free_factor", constants.little_free_factor);
  each("constants.balloon_batch", constants.balloon_batch);
  each("constants.more_to_give_factor", constants.more_to_give_factor);
  each("constants.more_to_give_min", constants.more_to_give_min);
  each("constants.speed_gain", constants.speed_gain);
  each("constants.failures_max", constants.failures_max);
  each("constants.headroom_refill_ratio", constants.headroom_refill_ratio);
  each("constants.pressed_deadband_ratio", constants.pressed_deadband_ratio);
  each("constants.cache_grow_ratio", constants.cache_grow_ratio);
  each("constants.touched_soon_ratio", constants.touched_soon_ratio);
  each("constants.last_moment", constants.last_moment);
  each("constants.foretold_max", constants.foretold_max);
  each("constants.reserve_kept_min", constants.reserve_kept_min);
  each("constants.own_rise_ratio", constants.own_rise_ratio);
  each("constants.own_half_life", constants.own_half_life);
  each("constants.own_steady_after", constants.own_steady_after);
  each("constants.reserve_half_life", constants.reserve_half_life);
  each("constants.leave_ratio", constants.leave_ratio);
  each("constants.swap_half_life", constants.swap_half_life);
  each("constants.ksm_sleep", constants.ksm_sleep);
  each("constants.ksm_pages_min", constants.ksm_pages_min);
  each("constants.ksm_pages_max", constants.ksm_pages_max);
  each("constants.ksm_pages_step", constants.ksm_pages_step);
  each("constants.ksm_vain_ratio", constants.ksm_vain_ratio);
  each("constants.ksm_vain_slower", constants.ksm_vain_slower);
  each("constants.ksm_vain_after_ratio", constants.ksm_vain_after_ratio);
  each("constants.ksm_stop_factor", constants.ksm_stop_factor);
}

/// Calls each(name, member) for a double, Bytes, 32 bits, bool, Surplus or nanoseconds.
template <typename Each>
void each_tunable(auto& tunables, const Each& each) {
  each("host_reserve", tunables.host_reserve);
  each("reserve_kept_ratio", tunables.reserve_kept_ratio);
  each("budget_rise_ratio_per_second", tunables.budget_rise_ratio_per_second);
  each("margin_ratio", tunables.margin_ratio);
  each("margin_min", tunables.margin_min);
  each("margin_low", tunables.margin_low);
  each("growth_horizon", tunables.growth_horizon);
  each("pressure_ratio", tunables.pressure_ratio);
  each("pressure_swap_in", tunables.pressure_swap_in);
  each("pressure_major_faults", tunables.pressure_major_faults);
  each("pressure_alloc_stalls", tunables.pressure_alloc_stalls);
  each("pressure_direct_scans", tunables.pressure_direct_scans);
  each("pressure_host_some", tunables.pressure_host_some);
  each("pressure_host_refaults", tunables.pressure_host_refaults);
  each("critical_ratio", tunables.critical_ratio);
  each("critical_growth", tunables.critical_growth);
  each("oom_memory", tunables.oom_memory);
  each("need_half_life", tunables.need_half_life);
  each("peak_window", tunables.peak_window);
  each("swapped_half_life", tunables.swapped_half_life);
  each("cache_half_life", tunables.cache_half_life);
  each("untouched_ratio", tunables.untouched_ratio);
  each("untouched_min", tunables.untouched_min);
  each("doubt_after", tunables.doubt_after);
  each("doubt_cache_ratio", tunables.doubt_cache_ratio);
  each("deadband_ratio", tunables.deadband_ratio);
  each("deadband_min", tunables.deadband_min);
  each("shrink_ratio_per_second", tunables.shrink_ratio_per_second);
  each("hold", tunables.hold);
  each("hold_growth", tunables.hold_growth);
  each("hold_max", tunables.hold_max);
  each("headroom_ratio", tunables.headroom_ratio);
  each("stale_after", tunables.stale_after);
  each("stuck_after", tunables.stuck_after);
  each("progress_per_second", tunables.progress_per_second);
  each("retry_after", tunables.retry_after);
  each("retry_max", tunables.retry_max);
  each("blind_after", tunables.blind_after);
  each("balloon_speed", tunables.balloon_speed);
  each("surplus", tunables.surplus);
  each("states.minimum_free", tunables.states.minimum_free);
  each("states.normal", tunables.states.normal);
  each("states.tight", tunables.states.tight);
  each("states.critical", tunables.states.critical);
  each("states.emergency", tunables.states.emergency);
  const auto actions = [&](const std::string& state, auto& of) {
    each("actions." + state + ".shrink_ratio_per_second", of.shrink_ratio_per_second);
    each("actions." + state + ".margin_factor", of.margin_factor);
    each("actions." + state + ".pressed_give", of.pressed_give);
    each("actions." + state + ".ksm", of.ksm);
    each("actions." + state + ".full_speed", of.full_speed);
  };
  actions("normal", tunables.actions.normal);
  actions("tight", tunables.actions.tight);
  actions("critical", tunables.actions.critical);
  actions("emergency", tunables.actions.emergency);
  each("swap_tight", tunables.swap_tight);
  each("swap_critical", tunables.swap_critical);
  each("pressure_tight", tunables.pressure_tight);
  each("pressure_critical", tunables.pressure_critical);
  each("ksm_credit", tunables.ksm_credit);
  each("ksm_ratio", tunables.ksm_ratio);
  each("ksm_scan", tunables.ksm_scan);
  each("ksm_scan_critical", tunables.ksm_scan_critical);
  each_constant(tunables.constants, each);
}

}  // namespace balloon::policy::recording
