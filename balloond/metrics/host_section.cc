// SPDX-License-Identifier: Apache-2.0
#include "balloond/metrics/sections.h"

namespace balloon::daemon {
namespace {

/// A guest that starts asks for memory within seconds, one that is to be moved here within minutes.
struct Horizon {
  std::string_view name;
  std::chrono::seconds time;
};
constexpr std::array<Horizon, 3> kHorizons{
    {{"5s", std::chrono::seconds(5)}, {"30s", std::chrono::seconds(30)}, {"5m", std::chrono::minutes(5)}}};

constexpr std::array<std::string_view, 6> kHostStates{"unspecified", "normal",   "tight",
                                                      "infeasible",  "critical", "emergency"};

void add_ksm(Families& out, const policy::KsmSnapshot& ksm, const KsmFigures& more) {
  out.gauge("balloon_host_ksm_running", "1 while KSM merges pages.", ksm.running);
  out.gauge("balloon_host_ksm_controllable", "1 while balloond runs KSM, 0 while it leaves it alone.",
            ksm.controllable);
  out.gauge("balloon_host_ksm_saved_bytes", "Memory that KSM saves by sharing equal pages.", ksm.sharing);
  out.gauge("balloon_host_ksm_shared_bytes", "Memory that stands for several equal pages.", ksm.shared);
  out.gauge("balloon_host_ksm_unshared_bytes", "Memory that KSM looked at and that is like no other.",
            ksm.unshared);
  out.gauge("balloon_host_ksm_volatile_bytes", "Memory that changes too fast for KSM.", more.changing);
  if (more.profit) {
    out.gauge("balloon_host_ksm_profit_bytes", "What KSM saves less what its bookkeeping takes.",
              *more.profit);
  }
  out.gauge("balloon_host_ksm_scan_pages", "Pages that KSM looks at each time it wakes.", ksm.pages_to_scan);
  out.gauge("balloon_host_ksm_sleep_seconds", "How long KSM sleeps in between.", seconds_of(ksm.sleep));
  out.counter("balloon_host_ksm_full_scans_total", "Scans of all memory that KSM may share.",
              more.full_scans);
}

void add_pressure(Families& out, const HostSample& host) {
  out.gauge("balloon_host_memory_pressure_some_ratio",
            "Share of the last 10 s in which some task waited for memory.", host.memory.pressure_some);
  out.gauge("balloon_host_memory_pressure_full_ratio",
            "Share of the last 10 s in which all tasks waited for memory.", host.memory.pressure_full);
  out.counter("balloon_host_memory_pressure_waiting_seconds_total",
              "Time in which some task waited for memory.",
              static_cast<double>(host.pressure_some_micros) / 1e6);
  out.counter("balloon_host_memory_pressure_stalled_seconds_total",
              "Time in which all tasks waited for memory.",
              static_cast<double>(host.pressure_full_micros) / 1e6);
}

}  // namespace

void add_host(Families& out, const State& state) {
  const policy::HostSnapshot& memory = state.host.memory;
  out.gauge("balloon_host_memory_total_bytes", "Memory of the host (MemTotal).", memory.total);
  out.gauge("balloon_host_memory_free_bytes", "Unused memory of the host (MemFree).", memory.free);
  out.gauge("balloon_host_memory_available_bytes",
            "Memory that programs could still take: MemAvailable, and what was given back of huge pages.",
            memory.available);
  out.gauge("balloon_host_memory_reserve_bytes", "Memory that policy keeps for the host itself.",
            state.reserve);
  out.gauge("balloon_host_memory_budget_bytes", "Memory that guests may have altogether.", state.budget);
  out.gauge("balloon_host_memory_committed_bytes", "Sum over guests of the larger of size and target.",
            state.committed);
  out.gauge("balloon_host_memory_reserved_bytes", "Of the budget, memory that is kept for reservations.",
            state.reserved);
  out.gauge("balloon_host_memory_configured_bytes", "Sum over guests of boot memory.", state.configured);
  out.gauge("balloon_host_swap_total_bytes", "Swap space of the host.", memory.swap_total);
  out.gauge("balloon_host_swap_free_bytes", "Unused swap space of the host.", memory.swap_free);
  out.counter("balloon_host_swap_in_bytes_total", "Memory that the host swapped in.", memory.swap_in);
  out.counter("balloon_host_swap_out_bytes_total", "Memory that the host swapped out.", memory.swap_out);
  if (memory.ksm) add_ksm(out, *memory.ksm, state.host.ksm);
  if (state.host.has_pressure) add_pressure(out, state.host);
  for (std::size_t i = 1; i < kHostStates.size(); ++i) {
    out.gauge("balloon_host_state", "1 for the state that the host's memory is in.",
              static_cast<std::size_t>(state.host_state) == i, {{"state", kHostStates.at(i)}});
  }
}

void add_capacity(Families& out, const State& state) {
  const policy::Outlook& outlook = state.outlook;
  out.gauge("balloon_host_headroom_bytes",
            "Of the budget, what no guest and no reservation has: it can be given at once.",
            outlook.supply.free);
  for (const Horizon& horizon : kHorizons) {
    out.gauge(
        "balloon_host_reclaimable_bytes",
        "What guests can give in that time, by how fast their balloons are, without what their programs "
        "use.",
        outlook.reclaimable(horizon.time), {{"horizon", horizon.name}});
  }
  out.gauge("balloon_host_bookable_bytes",
            "Of the budget, what is guaranteed to nobody: what new guests could be.", outlook.most());
  out.gauge("balloon_host_deficit_bytes",
            "By how much guarantees exceed the budget: so much would have to leave.", outlook.deficit());
  Bytes needed = state.reserved;
  for (const GuestStatus& guest : state.guests) needed = add(needed, guest.plan.need);
  out.gauge("balloon_host_memory_needed_bytes", "What guests need and reservations have, together.", needed);
}

}  // namespace balloon::daemon
