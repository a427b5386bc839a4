// SPDX-License-Identifier: Apache-2.0
#include "balloond/metrics/collector.h"

#include "balloond/metrics/families.h"
#include "balloond/metrics/sections.h"

namespace balloon::daemon {
namespace {

/// A tick takes tens of microseconds for a few guests; a second is a whole period lost.
constexpr std::array<double, 13> kTickBuckets{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01,
                                              0.025,  0.05,    0.1,    0.25,  0.5,    1};

}  // namespace

double seconds_of(std::chrono::nanoseconds duration) { return static_cast<double>(duration.count()) / 1e9; }

double seconds_of(WallTime time) { return seconds_of(std::chrono::nanoseconds(time.time_since_epoch())); }

Collector::Collector(const Sources& sources)
    : from_(sources),
      tick_seconds_(kTickBuckets),
      lateness_seconds_(kTickBuckets),
      reload_time_(seconds_of(sources.clock.wall())) {}

std::string Collector::page() const {
  const auto state = from_.states.newest();
  Families out;
  out.gauge("balloond_build_info", "The running version.", 1, {{"version", BALLOON_VERSION}});
  const bool decided = state->revision != 0;
  if (decided) add_host(out, *state);
  add_capacity(out, *state);
  add_guests(out, *state);
  const auto needs = from_.needs.figures();
  for (const GuestStatus& guest : state->guests) {
    add_guest(out, guest);
    if (const auto known = needs->find(guest.record.name); known != needs->end())
      add_needed(out, guest, known->second);
  }
  out.gauge("balloon_needs_failing", "1 while what guests needed cannot be written down.",
            from_.need_keeper.failing());
  out.gauge("balloon_control_applied",
            "1 while decisions are applied, 0 in a dry run and while control is paused.",
            state->not_applied.empty());
  out.gauge("balloon_control_last_decision_timestamp_seconds",
            "When the newest decision was made; 0 before the first.", decided ? seconds_of(state->wall) : 0);
  out.gauge("balloon_control_period_seconds", "How often is decided when nothing happens.",
            seconds_of(period_.load()));
  out.histogram("balloon_control_loop_duration_seconds",
                "How long one round of sampling, deciding and moving took.", tick_seconds_);
  out.histogram("balloon_control_loop_lateness_seconds",
                "How long after the moment it was due one round of control began.", lateness_seconds_);
  add_decisions(out, from_.counters);
  add_journal(out, from_.journal);
  add_reservations(out, from_.reservations, from_.clock);
  add_backends(out, from_.backends, from_.guests.requests());
  add_calls(out, from_.calls);
  out.gauge("balloon_config_last_reload_successful", "1 unless the newest configuration was refused.",
            reload_good_.load());
  out.gauge("balloon_config_last_reload_success_timestamp_seconds", "When a configuration was last taken.",
            reload_time_.load());
  constexpr auto reloads = "balloon_config_reloads_total";
  constexpr auto reloads_help = "Configurations that were loaded since the start, by what became of them.";
  out.counter(reloads, reloads_help, reloads_taken_.load(), {{"result", "taken"}});
  out.counter(reloads, reloads_help, reloads_refused_.load(), {{"result", "refused"}});
  add_log(out);
  add_process_metrics(out);
  return out.page();
}

void Collector::observe_tick(std::chrono::nanoseconds duration, std::chrono::nanoseconds lateness) {
  tick_seconds_.observe(seconds_of(duration));
  lateness_seconds_.observe(seconds_of(lateness));
}

void Collector::note_reload(bool good) {
  reload_good_ = good;
  ++(good ? reloads_taken_ : reloads_refused_);
  if (good) reload_time_ = seconds_of(from_.clock.wall());
}

}  // namespace balloon::daemon
