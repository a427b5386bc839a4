// Every tunable by its name, for recordings. Names are kept rather than places, so that a recording can be
// replayed by an engine that has more of them: those have their defaults then.
#pragma once

#include "policy/tunables.h"

namespace balloon::policy::recording {

static_assert(sizeof(Tunables) == 512 && sizeof(HostStateRules) == 40 && sizeof(StateActions) == 24,
              "a tunable was added: name it below, or recordings would not have it");

/// Calls each(name, member) for a double, Bytes, bool, Surplus or nanoseconds.
template <typename Each>
void each_tunable(auto& tunables, const Each& each) {
  each("host_reserve", tunables.host_reserve);
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
}

}  // namespace balloon::policy::recording
