#include "balloond/metrics/collector.h"

#include <algorithm>
#include <array>
#include <map>

#include "balloond/metrics/families.h"
#include "base/log.h"

namespace balloon::daemon {
namespace {

/// A tick takes tens of microseconds for a few guests; a second is a whole period lost.
const prometheus::Histogram::BucketBoundaries kTickBuckets{
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1};

constexpr std::array<const char*, kReasons> kReasonNames{"unspecified", "need",     "minimum",    "maximum",
                                                         "share",       "deadband", "rate_limit", "hold",
                                                         "pin",         "stale",    "waiting",    "surplus"};
constexpr std::array<const char*, 7> kGuestStates{"unspecified", "booting", "controlled",  "stale",
                                                  "stuck",       "pinned",  "disconnected"};
constexpr std::array<const char*, 6> kHostStates{"unspecified", "normal",   "tight",
                                                 "infeasible",  "critical", "emergency"};

double number(std::uint64_t value) { return static_cast<double>(value); }

double seconds_of(WallTime time) { return std::chrono::duration<double>(time.time_since_epoch()).count(); }

void add_ksm(Families& out, const policy::KsmSnapshot& ksm, const KsmFigures& more) {
  out.gauge("balloon_host_ksm_running", "1 while KSM merges pages.", ksm.running ? 1 : 0);
  out.gauge("balloon_host_ksm_controllable", "1 while balloond runs KSM, 0 while it leaves it alone.",
            ksm.controllable ? 1 : 0);
  out.gauge("balloon_host_ksm_saved_bytes", "Memory that KSM saves by sharing equal pages.",
            number(ksm.sharing));
  out.gauge("balloon_host_ksm_shared_bytes", "Memory that stands for several equal pages.",
            number(ksm.shared));
  out.gauge("balloon_host_ksm_unshared_bytes", "Memory that KSM looked at and that is like no other.",
            number(ksm.unshared));
  out.gauge("balloon_host_ksm_volatile_bytes", "Memory that changes too fast for KSM.",
            number(more.changing));
  if (more.profit) {
    out.gauge("balloon_host_ksm_profit_bytes", "What KSM saves less what its bookkeeping takes.",
              static_cast<double>(*more.profit));
  }
  out.gauge("balloon_host_ksm_scan_pages", "Pages that KSM looks at each time it wakes.",
            number(ksm.pages_to_scan));
  out.gauge("balloon_host_ksm_sleep_seconds", "How long KSM sleeps in between.",
            std::chrono::duration<double>(ksm.sleep).count());
  out.counter("balloon_host_ksm_full_scans_total", "Scans of all memory that KSM may share.",
              number(more.full_scans));
}

void add_host(Families& out, const State& state) {
  const policy::HostSnapshot& memory = state.host.memory;
  out.gauge("balloon_host_memory_total_bytes", "Memory of the host (MemTotal).", number(memory.total));
  out.gauge("balloon_host_memory_free_bytes", "Unused memory of the host (MemFree).", number(memory.free));
  out.gauge("balloon_host_memory_available_bytes", "Memory that programs could still take (MemAvailable).",
            number(memory.available));
  out.gauge("balloon_host_memory_reserve_bytes", "Memory that policy keeps for the host itself.",
            number(state.reserve));
  out.gauge("balloon_host_memory_budget_bytes", "Memory that guests may have altogether.",
            number(state.budget));
  out.gauge("balloon_host_memory_committed_bytes", "Sum over guests of the larger of size and target.",
            number(state.committed));
  out.gauge("balloon_host_memory_reserved_bytes", "Of the budget, memory that is kept for reservations.",
            number(state.reserved));
  out.gauge("balloon_host_memory_configured_bytes", "Sum over guests of boot memory.",
            number(state.configured));
  out.gauge("balloon_host_swap_total_bytes", "Swap space of the host.", number(memory.swap_total));
  out.gauge("balloon_host_swap_free_bytes", "Unused swap space of the host.", number(memory.swap_free));
  out.counter("balloon_host_swap_in_bytes_total", "Memory that the host swapped in.", number(memory.swap_in));
  out.counter("balloon_host_swap_out_bytes_total", "Memory that the host swapped out.",
              number(memory.swap_out));
  if (memory.ksm) add_ksm(out, *memory.ksm, state.host.ksm);
  if (state.host.has_pressure) {
    out.gauge("balloon_host_memory_pressure_some_ratio",
              "Share of the last 10 s in which some task waited for memory.", memory.pressure_some);
    out.gauge("balloon_host_memory_pressure_full_ratio",
              "Share of the last 10 s in which all tasks waited for memory.", memory.pressure_full);
    out.counter("balloon_host_memory_pressure_waiting_seconds_total",
                "Time in which some task waited for memory.", number(state.host.pressure_some_micros) / 1e6);
    out.counter("balloon_host_memory_pressure_stalled_seconds_total",
                "Time in which all tasks waited for memory.", number(state.host.pressure_full_micros) / 1e6);
  }
  for (std::size_t i = 1; i < kHostStates.size(); ++i) {
    out.gauge("balloon_host_state", "1 for the state that the host's memory is in.",
              static_cast<std::size_t>(state.host_state) == i ? 1 : 0, {{"state", kHostStates.at(i)}});
  }
}

void add_guest_sizes(Families& out, const GuestStatus& guest, const Labels& label) {
  const GuestRecord& record = guest.record;
  out.gauge("balloon_guest_configured_bytes", "Boot memory.", number(record.memory), label);
  out.gauge("balloon_guest_min_bytes", "Guaranteed minimum.", number(guest.limits.min), label);
  out.gauge("balloon_guest_max_bytes", "The most that policy lets the guest have.", number(guest.limits.max),
            label);
  out.gauge("balloon_guest_target_bytes", "Size last asked for.", number(record.target), label);
  out.gauge("balloon_guest_actual_bytes", "Size the guest has.", number(record.balloon.actual), label);
  out.gauge("balloon_guest_resident_bytes", "Resident memory of its VMM process.",
            number(record.on_host.resident), label);
  out.gauge("balloon_guest_swapped_bytes", "Memory of its VMM process in host swap.",
            number(record.on_host.swapped), label);
  out.gauge("balloon_guest_used_bytes", "Memory believed to be in use by the guest.", number(guest.plan.used),
            label);
  out.gauge("balloon_guest_need_bytes", "What the guest should have if nothing else limited it.",
            number(guest.plan.need), label);
  out.gauge("balloon_guest_share_bytes", "Its share when not everybody can have what they need.",
            number(guest.plan.share), label);
  out.counter("balloon_guest_rejected_messages_total", "Messages of the guest or its VMM that made no sense.",
              number(record.rejected), label);
  out.gauge("balloon_guest_contested", "1 while its balloon is left alone because somebody else moved it.",
            guest.contested_until ? 1 : 0, label);
  out.counter("balloon_guest_contests_total", "Times that somebody else moved its balloon.",
              number(record.contests), label);
  out.counter("balloon_guest_refused_targets_total", "Targets that its VMM refused.", number(record.refused),
              label);
}

/// Nothing that its driver says is believed now: it is held, or starting.
bool is_blind(const GuestStatus& guest) {
  return guest.plan.state == policy::GuestState::stale || !guest.record.usable;
}

double seconds(std::chrono::nanoseconds duration) { return static_cast<double>(duration.count()) / 1e9; }

void add_guest_stats(Families& out, const StatsSample& stats, const Labels& label) {
  const auto gauge = [&](const char* name, const char* help, std::optional<std::uint64_t> value) {
    if (value) out.gauge(name, help, number(*value), label);
  };
  const auto counter = [&](const char* name, const char* help, std::optional<std::uint64_t> value) {
    if (value) out.counter(name, help, number(*value), label);
  };
  if (stats.sampled_at && *stats.sampled_at >= WallTime()) {
    out.gauge("balloon_guest_stats_timestamp_seconds", "When its newest statistics were sampled.",
              seconds(stats.sampled_at->time_since_epoch()), label);
  }
  if (stats.round_trip) {
    out.gauge("balloon_guest_stats_round_trip_seconds",
              "How long it took to answer the newest request for statistics.", seconds(*stats.round_trip),
              label);
  }
  gauge("balloon_guest_available_bytes", "Memory that its programs could still take.", stats.available);
  gauge("balloon_guest_disk_caches_bytes", "Its page cache.", stats.disk_caches);
  counter("balloon_guest_swap_in_bytes_total", "Memory that it swapped in.", stats.swap_in);
  counter("balloon_guest_swap_out_bytes_total", "Memory that it swapped out.", stats.swap_out);
  counter("balloon_guest_major_faults_total", "Its major page faults.", stats.major_faults);
  counter("balloon_guest_disk_read_bytes_total", "Bytes that its disks read, by its hypervisor's count.",
          stats.disk_read);
  counter("balloon_guest_oom_kills_total", "Its OOM killer's invocations.", stats.oom_kills);
}

/// What the VMM did for its balloon. They start again when the guest boots, as Prometheus' counters may.
void add_guest_balloon(Families& out, const BalloonCounters& counters, const Labels& label) {
  out.counter("balloon_guest_inflated_bytes_total",
              "Memory released to the host because the guest inflated its balloon.",
              number(counters.inflated), label);
  out.counter("balloon_guest_deflated_bytes_total", "Memory returned to the guest from its balloon.",
              number(counters.deflated), label);
  out.counter("balloon_guest_reported_bytes_total",
              "Memory released to the host because the guest reported it as free.", number(counters.reported),
              label);
  out.counter("balloon_guest_hinted_bytes_total",
              "Memory released to the host because the guest hinted it as free when it was asked.",
              number(counters.hinted), label);
  out.counter("balloon_guest_freed_bytes_total",
              "Of all that was released, what the host really got back: it was in its memory before.",
              number(counters.freed), label);
  out.counter("balloon_guest_stalls_total", "Times that its balloon stood still for 2 s off its target.",
              number(counters.stalls), label);
  out.counter("balloon_guest_refused_pages_total", "Pages that it gave back but does not have.",
              number(counters.refused_pages), label);
  out.gauge("balloon_guest_speed_bytes_per_second",
            "Speed of its balloon's move that is under way, or of the last one.", number(counters.per_second),
            label);
}

void add_guest(Families& out, const GuestStatus& guest) {
  const Labels label{{"guest", guest.record.name}};
  out.gauge("balloon_guest_info", "What is constant about a guest.", 1,
            {{"guest", guest.record.name},
             {"backend", guest.record.hypervisor},
             {"vmm_version", guest.record.version},
             {"vcpus", std::to_string(guest.record.vcpus)}});
  for (std::size_t i = 1; i < kGuestStates.size(); ++i) {
    out.gauge("balloon_guest_state", "1 for the state that the guest is in.",
              static_cast<std::size_t>(guest.plan.state) == i ? 1 : 0,
              {{"guest", guest.record.name}, {"state", kGuestStates.at(i)}});
  }
  add_guest_sizes(out, guest, label);
  // From the first second, so that an alert sees what is missing.
  out.gauge("balloon_guest_blind", "1 while it has no statistics that can be judged by.",
            is_blind(guest) ? 1 : 0, label);
  if (guest.record.said) add_guest_stats(out, *guest.record.said, label);
  if (guest.record.counters) add_guest_balloon(out, *guest.record.counters, label);
  if (guest.record.merging) {
    out.gauge("balloon_guest_merging",
              "1 while KSM may share its memory, 0 while not; absent: its VMM does not say.",
              *guest.record.merging ? 1 : 0, label);
  }
}

/// Of all guests, so that a fleet is seen without a series of each guest.
void add_guests(Families& out, const State& state) {
  std::array<std::uint64_t, kGuestStates.size()> in_state{};
  std::uint64_t needed = 0;
  std::uint64_t had = 0;
  std::map<std::string, std::uint64_t> connected{{"balloon-vmm", 0}, {"qemu", 0}};
  std::uint64_t blind = 0;
  for (const GuestStatus& guest : state.guests) {
    ++in_state.at(static_cast<std::size_t>(guest.plan.state));
    blind += is_blind(guest) ? 1 : 0;
    needed += guest.plan.need;
    had += std::min(guest.plan.need, guest.actual);
    if (guest.record.connected) ++connected[guest.record.hypervisor];
  }
  for (std::size_t i = 1; i < kGuestStates.size(); ++i) {
    out.gauge("balloon_guests", "Guests, by the state that they are in.", number(in_state.at(i)),
              {{"state", kGuestStates.at(i)}});
  }
  out.gauge("balloon_guests_blind", "Guests without statistics that can be judged by.", number(blind));
  for (const auto& [backend, count] : connected)
    out.gauge("balloon_backend_guests", "Guests whose hypervisor is connected.", number(count),
              {{"backend", backend}});
  out.gauge("balloon_guests_satisfaction_ratio", "Of what guests need together, the part that they have.",
            needed == 0 ? 1 : number(had) / number(needed));
  out.gauge("balloon_control_applied",
            "1 while decisions are applied, 0 in a dry run and while control is paused.",
            state.not_applied.empty() ? 1 : 0);
}

void add_reservations(Families& out, const std::vector<ReservationRecord>& reservations, bool failing,
                      WallTime now) {
  std::array<std::uint64_t, 2> count{};
  std::array<std::uint64_t, 2> bytes{};
  double lease = 0;
  for (const ReservationRecord& each : reservations) {
    const bool granted = each.state == policy::GrantState::granted;
    ++count.at(granted ? 1 : 0);
    bytes.at(granted ? 1 : 0) += granted ? each.granted : each.wish.min;
    if (granted) lease = std::max(lease, std::chrono::duration<double>(each.lease_until - now).count());
  }
  for (const std::size_t i : {0U, 1U}) {
    const Labels label{{"state", i == 0 ? "pending" : "granted"}};
    out.gauge("balloon_reservations", "Reservations, by whether their memory is there.", number(count.at(i)),
              label);
    out.gauge("balloon_reservations_bytes",
              "Memory of reservations: the minimum of those that wait, and what those that are granted have.",
              number(bytes.at(i)), label);
  }
  out.gauge("balloon_reservations_longest_lease_seconds", "How long the longest lease of a grant still runs.",
            std::max(lease, 0.0));
  out.gauge("balloon_reservations_failing", "1 while what is reserved cannot be written down.",
            failing ? 1 : 0);
}

void add_control(Families& out, const Counters& counters) {
  for (std::size_t i = 1; i < kReasons; ++i) {
    out.counter("balloon_decisions_total",
                "Decisions for one guest, by the constraint that bound its target.",
                number(counters.decisions.at(i)), {{"reason", kReasonNames.at(i)}});
  }
  constexpr auto moves_help = "Targets that were changed.";
  out.counter("balloon_moves_total", moves_help, number(counters.shrinks), {{"direction", "shrink"}});
  out.counter("balloon_moves_total", moves_help, number(counters.grows), {{"direction", "grow"}});
  constexpr auto moved_help = "Memory by which targets were changed.";
  out.counter("balloon_moved_bytes_total", moved_help, number(counters.bytes_shrunk),
              {{"direction", "shrink"}});
  out.counter("balloon_moved_bytes_total", moved_help, number(counters.bytes_grown), {{"direction", "grow"}});
  out.counter("balloon_reversals_total",
              "Targets that were changed in the other direction than the guest's last time, within a minute.",
              number(counters.reversals));
  if (counters.shadow_decisions != 0) {
    out.counter("balloon_shadow_decisions_total",
                "Decisions that the shadow policy made beside the live one.",
                number(counters.shadow_decisions));
    out.counter("balloon_shadow_different_decisions_total",
                "Those of them in which some guest would have had another target.",
                number(counters.shadow_different));
  }
  out.counter("balloon_fresh_stats_requests_total",
              "Times that a guest was asked for fresh statistics, because the host was short of memory.",
              number(counters.stats_requests));
  out.counter("balloon_failed_ticks_total",
              "Control periods without a decision, because the host could not be sampled.",
              number(counters.failed_ticks));
}

void add_journal(Families& out, const JournalCounters& journal) {
  out.counter("balloon_journal_decisions_total", "Decisions that were recorded.", number(journal.decisions));
  out.counter("balloon_journal_lost_decisions_total",
              "Decisions that were not recorded: a file could not be written, or not in time.",
              number(journal.lost));
  out.counter("balloon_journal_written_bytes_total", "Written to recordings.", number(journal.bytes));
  out.gauge("balloon_journal_failing", "1 while decisions are not recorded.", journal.failing ? 1 : 0);
}

void add_log(Families& out, const log::Losses& losses) {
  constexpr auto help =
      "Lines that are not in the log: standard error did not take them, or their source wrote too many.";
  out.counter("balloon_log_lost_lines_total", help, number(losses.not_taken), {{"reason", "not_taken"}});
  out.counter("balloon_log_lost_lines_total", help, number(losses.limited), {{"reason", "limited"}});
}

}  // namespace

Collector::Collector(const Clock& clock, const StateStore& states, const Counters& counters,
                     const JournalCounters* journal, const ReservationBook& reservations)
    : clock_(clock),
      states_(states),
      counters_(counters),
      journal_(journal),
      reservations_(reservations),
      tick_seconds_(kTickBuckets),
      lateness_seconds_(kTickBuckets),
      reload_time_(seconds_of(clock.wall())) {}

std::vector<prometheus::MetricFamily> Collector::Collect() const {
  const auto state = states_.newest();
  Families out;
  out.gauge("balloond_build_info", "The running version.", 1, {{"version", BALLOON_VERSION}});
  if (state->revision != 0) add_host(out, *state);
  add_guests(out, *state);
  for (const GuestStatus& guest : state->guests) add_guest(out, guest);
  add_control(out, counters_);
  if (journal_ != nullptr) add_journal(out, *journal_);
  add_reservations(out, reservations_.list(), reservations_.failing(), clock_.wall());
  out.family("balloon_control_loop_duration_seconds",
             "How long one round of sampling, deciding and moving took.", prometheus::MetricType::Histogram)
      .metric.push_back(tick_seconds_.Collect());
  out.family("balloon_control_loop_lateness_seconds",
             "How long after the moment it was due one round of control began.",
             prometheus::MetricType::Histogram)
      .metric.push_back(lateness_seconds_.Collect());
  out.gauge("balloon_config_last_reload_successful", "1 unless the newest configuration was refused.",
            reload_good_ ? 1 : 0);
  out.gauge("balloon_config_last_reload_success_timestamp_seconds", "When a configuration was last taken.",
            reload_time_);
  add_log(out, log::losses());
  add_process_metrics(out);
  return out.take();
}

void Collector::observe_tick(std::chrono::nanoseconds duration, std::chrono::nanoseconds lateness) {
  tick_seconds_.Observe(std::chrono::duration<double>(duration).count());
  lateness_seconds_.Observe(std::chrono::duration<double>(lateness).count());
}

void Collector::note_reload(bool good) {
  reload_good_ = good;
  if (good) reload_time_ = seconds_of(clock_.wall());
}

}  // namespace balloon::daemon
