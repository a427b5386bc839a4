// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <optional>
#include <string>

#include "balloond/metrics/sections.h"
#include "policy/explain.h"

namespace balloon::daemon {
namespace {

/// Nothing that its driver says is believed now: it is held, judged by what the host sees of it, or starting.
bool is_blind(const GuestStatus& guest) {
  return guest.plan.state == policy::GuestState::stale || guest.plan.why.source == policy::Source::host ||
         !guest.record.usable;
}

double satisfaction_of(const GuestStatus& guest) {
  if (guest.actual >= guest.plan.need) return 1;
  return static_cast<double>(guest.actual) / static_cast<double>(guest.plan.need);
}

void add_sizes(Families& out, const GuestStatus& guest, const Labels& label) {
  const GuestRecord& record = guest.record;
  out.gauge("balloon_guest_configured_bytes", "Boot memory.", record.memory, label);
  out.gauge("balloon_guest_min_bytes", "Guaranteed minimum.", guest.limits.min, label);
  out.gauge("balloon_guest_max_bytes", "The most that policy lets the guest have.", guest.limits.max, label);
  out.gauge("balloon_guest_floor_bytes",
            "The least that it can be brought to now: its minimum, or what it counts with while it cannot be "
            "moved.",
            floor_of(guest), label);
  out.gauge("balloon_guest_target_bytes", "Size last asked for.", record.target, label);
  out.gauge("balloon_guest_actual_bytes", "Size the guest has.", record.balloon.actual, label);
  out.gauge("balloon_guest_resident_bytes",
            "Resident memory of its VMM process, without files of the program.", record.on_host.resident,
            label);
  out.gauge("balloon_guest_swapped_bytes", "Memory of its VMM process in host swap.", record.on_host.swapped,
            label);
  if (policy::knows_use(guest.plan)) {
    out.gauge("balloon_guest_used_bytes", "Memory believed to be in use by the guest.", guest.plan.used,
              label);
  }
  out.gauge("balloon_guest_need_bytes",
            "What the guest should have if nothing else limited it; where that is not known, what it counts "
            "with.",
            guest.plan.need, label);
  out.gauge("balloon_guest_share_bytes", "Its share when not everybody can have what they need.",
            guest.plan.share, label);
}

/// How it fares. From the first second, so that an alert sees what is missing.
void add_condition(Families& out, const GuestStatus& guest, const Labels& label) {
  const GuestRecord& record = guest.record;
  out.gauge("balloon_guest_blind", "1 while it has no statistics that can be judged by.", is_blind(guest),
            label);
  out.gauge("balloon_guest_satisfaction_ratio", "Of what it needs, the part that it has.",
            satisfaction_of(guest), label);
  out.gauge("balloon_guest_pressure", "0: it does not hurt. 1: pressed. 2: below its critical line.",
            static_cast<int>(guest.plan.why.pressure), label);
  out.gauge("balloon_guest_contested", "1 while its balloon is left alone because somebody else moved it.",
            guest.contested_until.has_value(), label);
  out.counter("balloon_guest_contests_total", "Times that somebody else moved its balloon.", record.contests,
              label);
  out.counter("balloon_guest_reversals_total",
              "Targets that were changed in the other direction than its last one, within a minute.",
              guest.reversals, label);
  out.counter("balloon_guest_rejected_messages_total", "Messages of the guest or its VMM that made no sense.",
              record.rejected, label);
  out.counter("balloon_guest_refused_targets_total", "Targets that its VMM refused.", record.refused, label);
}

void add_stats(Families& out, const StatsSample& stats, const Labels& label) {
  const auto gauge = [&](std::string_view name, std::string_view help, std::optional<Bytes> size) {
    if (size) out.gauge(name, help, *size, label);
  };
  const auto counter = [&](std::string_view name, std::string_view help, const auto& value) {
    if (value) out.counter(name, help, *value, label);
  };
  if (stats.sampled_at && *stats.sampled_at >= WallTime()) {
    out.gauge("balloon_guest_stats_timestamp_seconds", "When its newest statistics were sampled.",
              seconds_of(*stats.sampled_at), label);
  }
  gauge("balloon_guest_available_bytes", "Memory that its programs could still take.", stats.available);
  gauge("balloon_guest_disk_caches_bytes", "Its page cache.", stats.disk_caches);
  counter("balloon_guest_swap_in_bytes_total", "Memory that it swapped in.", stats.swap_in);
  counter("balloon_guest_swap_out_bytes_total", "Memory that it swapped out.", stats.swap_out);
  counter("balloon_guest_major_faults_total", "Its major page faults.", stats.major_faults);
  counter("balloon_guest_disk_read_bytes_total",
          "Bytes that its disks read, by its hypervisor's count: re-reads of a page cache that is too small, "
          "too.",
          stats.disk_read);
  counter("balloon_guest_oom_kills_total", "Its OOM killer's invocations.", stats.oom_kills);
}

/// What the VMM did for its balloon. They start again when the guest boots, as Prometheus' counters may.
void add_balloon(Families& out, const BalloonCounters& counters, const Labels& label) {
  out.counter("balloon_guest_inflated_bytes_total",
              "Memory released to the host because the guest inflated its balloon.", counters.inflated,
              label);
  out.counter("balloon_guest_deflated_bytes_total", "Memory returned to the guest from its balloon.",
              counters.deflated, label);
  out.counter("balloon_guest_reported_bytes_total",
              "Memory released to the host because the guest reported it as free, or hinted it when asked.",
              counters.reported + counters.hinted, label);
  out.counter("balloon_guest_freed_bytes_total",
              "Of all that was released, what the host really got back: it was in its memory before.",
              counters.freed, label);
  out.counter("balloon_guest_stalls_total", "Times that its balloon stood still for 2 s off its target.",
              counters.stalls, label);
}

std::string_view merging_of(const GuestRecord& record) {
  if (!record.merging) return "unknown";
  return *record.merging ? "yes" : "no";
}

}  // namespace

void add_guest(Families& out, const GuestStatus& guest) {
  const GuestRecord& record = guest.record;
  const Labels label{{"guest", record.name}};
  out.gauge("balloon_guest_info", "What is constant about a guest, and whether KSM may share its memory.", 1,
            label.with({{"backend", record.hypervisor},
                        {"vmm_version", record.version},
                        {"vcpus", std::to_string(record.vcpus)},
                        {"merging", merging_of(record)}}));
  if (const GuestState state = state_of(guest); state != GuestState::unspecified) {
    out.gauge("balloon_guest_state", "1 for the state that the guest is in.", 1,
              label.with({{"state", word_of(state)}}));
  }
  add_sizes(out, guest, label);
  add_condition(out, guest, label);
  if (record.said) add_stats(out, *record.said, label);
  if (record.counters) add_balloon(out, *record.counters, label);
}

void add_needed(Families& out, const GuestStatus& guest, const NeedsByWindow& needs) {
  for (std::size_t i = 0; i < needs.size(); ++i) {
    if (needs[i].observed.count() == 0) continue;
    const Labels label{{"guest", guest.record.name}, {"window", kNeedWindows[i].name}};
    constexpr auto name = "balloon_guest_needed_bytes";
    constexpr auto help = "What it needed no more than for that part of the last day, week and month.";
    out.gauge(name, help, needs[i].p95, label.with({{"percentile", "95"}}));
    out.gauge(name, help, needs[i].p99, label.with({{"percentile", "99"}}));
  }
}

void add_guests(Families& out, const State& state) {
  std::array<std::uint64_t, kGuestStates.size()> in_state{};
  std::array<std::uint64_t, kBackends.size()> connected{};
  Bytes needed{}, had{};
  std::uint64_t blind = 0, contested = 0, pressed = 0, critical = 0;
  for (const GuestStatus& guest : state.guests) {
    ++in_state.at(static_cast<std::size_t>(state_of(guest)));
    blind += is_blind(guest) ? 1 : 0;
    contested += guest.contested_until ? 1 : 0;
    pressed += guest.plan.why.pressure == policy::Pressure::pressed ? 1 : 0;
    critical += guest.plan.why.pressure == policy::Pressure::critical ? 1 : 0;
    needed += guest.plan.need;
    had += std::min(guest.plan.need, guest.actual);
    const auto backend = std::ranges::find(kBackends, guest.record.hypervisor) - kBackends.begin();
    if (guest.record.connected && static_cast<std::size_t>(backend) < kBackends.size())
      ++connected.at(static_cast<std::size_t>(backend));
  }
  for (std::size_t i = 1; i < kGuestStates.size(); ++i) {
    out.gauge("balloon_guests", "Guests, by the state that they are in.", in_state.at(i),
              {{"state", kGuestStates.at(i)}});
  }
  out.gauge("balloon_guests_blind", "Guests without statistics that can be judged by.", blind);
  out.gauge("balloon_guests_contested",
            "Guests that are left alone because somebody else moved their balloon.", contested);
  constexpr auto pressed_help = "Guests that hurt; critical: those below their critical line.";
  out.gauge("balloon_guests_pressed", pressed_help, pressed, {{"level", "pressed"}});
  out.gauge("balloon_guests_pressed", pressed_help, critical, {{"level", "critical"}});
  for (std::size_t i = 0; i < kBackends.size(); ++i) {
    out.gauge("balloon_backend_guests", "Guests whose hypervisor is connected.", connected.at(i),
              {{"backend", kBackends.at(i)}});
  }
  out.gauge("balloon_guests_satisfaction_ratio", "Of what guests need together, the part that they have.",
            needed == Bytes{0} ? 1 : static_cast<double>(had) / static_cast<double>(needed));
}

}  // namespace balloon::daemon
