// SPDX-License-Identifier: Apache-2.0
#include "tests/observability/simulated_daemon.h"

#include <fmt/format.h>

#include <algorithm>

#include "balloon/v1/scheduler.pb.h"

namespace balloon::test {
namespace {

using daemon::test::FakeTree;

/// How long before it starts a guest to come is reserved for.
constexpr std::chrono::seconds kReservedBefore{60};

policy::rules::PolicyFile policy_of(const policy::sim::Scenario& scenario) {
  policy::rules::PolicyFile policy;
  policy.tunables = scenario.tunables;
  for (const policy::sim::GuestSpec& guest : scenario.guests) {
    policy::rules::GuestRule& rule = policy.guests.emplace_back();
    rule.name = guest.name;
    rule.layer.values.min = policy::rules::SizeRule{.bytes = guest.limits.min};
    rule.layer.values.max = policy::rules::SizeRule{.bytes = guest.limits.max};
    rule.layer.values.weight = guest.limits.weight;
  }
  return policy;
}

daemon::JournalConfig journal_in(const FakeTree& tree, bool works) {
  // Below a file no directory can be made.
  tree.write("/no-directory", "");
  return {.directory = tree.root() + (works ? "/journal" : "/no-directory/journal"),
          .file_size = kMiB,
          .total_size = 4 * kMiB};
}

std::string in_kib(Bytes bytes) { return std::to_string(bytes / kKiB); }

daemon::StatsSample said(const policy::GuestStats& stats, daemon::WallTime wall) {
  daemon::StatsSample out;
  out.sampled_at = wall;
  out.actual = stats.actual;
  out.swap_in = stats.swap_in;
  out.swap_out = stats.swap_out;
  out.major_faults = stats.major_faults;
  out.free = stats.free;
  out.total = stats.total;
  out.available = stats.available;
  out.disk_caches = stats.disk_caches;
  out.oom_kills = stats.oom_kills;
  out.alloc_stalls = stats.alloc_stalls;
  out.direct_scans = stats.direct_scans;
  out.direct_reclaims = stats.direct_reclaims;
  out.disk_read = stats.disk_read;
  return out;
}

}  // namespace

SimulatedDaemon::SimulatedDaemon(const policy::sim::Scenario& scenario, std::uint64_t seed,
                                 daemon::WallTime start, bool journal_works)
    : scenario_(scenario),
      clock_(start),
      world_(scenario, seed),
      guests_(clock_, tree_.root()),
      journal_(clock_, journal_in(tree_, journal_works)),
      reservations_(clock_),
      control_(clock_),
      collector_({.clock = clock_,
                  .states = states_,
                  .counters = begin(),
                  .journal = &journal_.counters(),
                  .reservations = reservations_,
                  .calls = calls_,
                  .guests = guests_,
                  .needs = needs_,
                  .need_keeper = need_keeper_,
                  .backends = {&backends_[0], &backends_[1], &backends_[2]}}) {
  collector_.set_period(std::chrono::seconds(1));
  backends_[0].configured = true;
}

/// The sampler opens files, which have to be there.
const daemon::Counters& SimulatedDaemon::begin() {
  // The service is linked because somebody names it: its calls are counted by what is known of it.
  (void)balloon::v1::ListGuestsRequest::descriptor();
  world_.snapshot(now_);
  write_host();
  host_.emplace(tree_.root());
  ticker_.emplace(clock_, guests_, *host_, states_, policy_of(scenario_), &journal_, &reservations_, nullptr,
                  &control_);
  return ticker_->counters();
}

void SimulatedDaemon::strike(const Trouble& trouble) {
  trouble_ = trouble;
  if (trouble.reload_refused) collector_.note_reload(false);
  if (trouble.control_paused) control_.pause(std::nullopt, "uid 0");
  if (trouble.reservations_unwritable) {
    reservations_.keep_by([] {});
    const auto nobody = [](const daemon::ReservationOutcome&) {};
    (void)reservations_.ask({.id = "unwritable",
                             .min = 64 * kMiB,
                             .max = 64 * kMiB,
                             .within = std::chrono::hours(1),
                             .lease = std::chrono::hours(1)},
                            this, nobody);
  }
  if (!trouble.pinned.empty()) {
    const auto guest = guests_.find(trouble.pinned);
    guests_.set_pin(trouble.pinned, guest->memory / 8, std::chrono::hours(24));
  }
  if (!trouble.reserved.empty()) {
    (void)reservations_.ask({.id = trouble.reserved,
                             .min = scenario_.host.memory / 2,
                             .max = scenario_.host.memory / 2,
                             .within = std::chrono::minutes(20),
                             .lease = std::chrono::hours(1)},
                            this, [](const daemon::ReservationOutcome&) {});
  }
}

void SimulatedDaemon::run_a_second() {
  const auto until = world_.now() + std::chrono::seconds(1);
  while (world_.now() < until && !world_.done()) world_.step();
  clock_.run_to(world_.now());
  world_.snapshot(now_);
  write_host();
  look_at_guests();
  be_called();
  if (trouble_.stands_still) return;
  reserve_for_those_to_come();
  meddle();
  const auto began = std::chrono::steady_clock::now();
  ticker_->tick();
  collector_.observe_tick(std::chrono::steady_clock::now() - began, trouble_.lateness);
  needs_.observe(*states_.newest());
  need_keeper_.turn();
  if (trouble_.reservations_unwritable) {
    if (const auto unkept = reservations_.unkept()) reservations_.not_kept(unkept->revision, "disk full");
  }
  obey();
}

void SimulatedDaemon::write_host() {
  const policy::HostSnapshot& host = now_.host;
  tree_.write(
      "/proc/meminfo",
      fmt::format("MemTotal: {} kB\nMemFree: {} kB\nMemAvailable: {} kB\nSwapTotal: {} kB\nSwapFree: {} "
                  "kB\n",
                  in_kib(host.total), in_kib(host.free), in_kib(host.available), in_kib(host.swap_total),
                  in_kib(host.swap_free)));
  tree_.write("/proc/vmstat", fmt::format("pswpin {}\npswpout {}\n", host.swap_in / daemon::page_size(),
                                          host.swap_out / daemon::page_size()));
  some_micros_ += host.pressure_some * 1e6;
  full_micros_ += host.pressure_full * 1e6;
  tree_.write(
      "/proc/pressure/memory",
      fmt::format("some avg10={:.2f} avg60=0.00 avg300=0.00 total={:.0f}\nfull avg10={:.2f} avg60=0.00 "
                  "avg300=0.00 total={:.0f}\n",
                  host.pressure_some * 100, some_micros_, host.pressure_full * 100, full_micros_));
  write_ksm();
}

void SimulatedDaemon::write_ksm() {
  const policy::KsmSnapshot ksm = now_.host.ksm.value_or(policy::KsmSnapshot{});
  // A page's bookkeeping (struct ksm_rmap_item, mm/ksm.c) is 64 bytes, of each page that it looked at.
  const Bytes overhead = (ksm.sharing + ksm.unshared) / daemon::page_size() * Bytes{64};
  const std::int64_t profit = trouble_.ksm_profit.value_or(static_cast<std::int64_t>(ksm.sharing) -
                                                           static_cast<std::int64_t>(overhead));
  const std::pair<const char*, std::int64_t> files[] = {
      {"run", ksm.running || trouble_.ksm_profit ? 1 : 0},
      {"pages_to_scan", static_cast<std::int64_t>(ksm.pages_to_scan)},
      {"sleep_millisecs", std::max<std::int64_t>(1, ksm.sleep / std::chrono::milliseconds(1))},
      {"pages_shared", static_cast<std::int64_t>(ksm.shared / daemon::page_size())},
      {"pages_sharing", static_cast<std::int64_t>(ksm.sharing / daemon::page_size())},
      {"pages_unshared", static_cast<std::int64_t>(ksm.unshared / daemon::page_size())},
      {"pages_volatile", 0},
      {"full_scans", world_.now() / std::chrono::minutes(5)},
      {"general_profit", profit}};
  for (const auto& [file, value] : files)
    tree_.write(std::string("/sys/kernel/mm/ksm/") + file, std::to_string(value) + "\n");
}

void SimulatedDaemon::look_at_guests() {
  for (auto& [name, vmm] : vmms_) vmm.seen = false;
  for (std::size_t i = 0; i < now_.guests.size(); ++i) {
    const policy::GuestSnapshot& guest = now_.guests[i];
    if (!vmms_.contains(guest.name)) join(guest, world_.guest_at(i));
    Vmm& vmm = vmms_.at(guest.name);
    vmm.seen = true;
    report(vmm, guest, world_.guest_at(i));
  }
  for (auto& [name, vmm] : vmms_) {
    if (vmm.seen) continue;
    guests_.left(vmm.session);
    tree_.end_process(vmm.pid);
  }
  std::erase_if(vmms_, [](const auto& each) { return !each.second.seen; });
  backends_[0].connected = vmms_.size();
}

void SimulatedDaemon::join(const policy::GuestSnapshot& guest, std::size_t in_world) {
  Vmm& vmm = vmms_[guest.name];
  vmm.pid = next_pid_++;
  vmm.newest = now_.now - std::chrono::seconds(1);
  tree_.process(vmm.pid, in_kib(guest.on_host.resident));
  daemon::Registration hello = daemon::test::registration(guest.name, guest.memory, guest.actual);
  hello.hypervisor = "balloon-vmm";
  hello.version = BALLOON_VERSION;
  hello.vcpus = 2;
  hello.merging = true;
  hello.can.events = hello.can.reporting = hello.can.disk_reads = true;
  hello.balloon->target = world_.targets()[in_world];
  hello.balloon->driver_ready = guest.controllable;
  hello.balloon->free_page_reporting = scenario_.guests[in_world].free_page_reporting;
  vmm.balloon = *hello.balloon;
  vmm.session = guests_.joined(hello, {.pid = vmm.pid, .uid = 0}, vmm.channel).value_or(daemon::Session{0});
}

/// What the guest's VMM tells, and what its process looks like.
void SimulatedDaemon::report(Vmm& vmm, const policy::GuestSnapshot& guest, std::size_t in_world) {
  tree_.write("/proc/" + std::to_string(vmm.pid) + "/status",
              fmt::format("Name:\tballoon-vmm\nState:\tS (sleeping)\nVmRSS:\t{} kB\nVmSwap:\t{} kB\n",
                          in_kib(guest.on_host.resident), in_kib(guest.on_host.swapped)));
  daemon::BalloonState balloon = vmm.balloon;
  balloon.actual = guest.actual;
  balloon.target = world_.targets()[in_world];
  balloon.driver_ready = guest.controllable;
  if (balloon != vmm.balloon) {
    if (balloon.actual < vmm.balloon.actual) {
      vmm.counters.inflated += vmm.balloon.actual - balloon.actual;
      vmm.counters.freed += vmm.balloon.actual - balloon.actual;
    } else {
      vmm.counters.deflated += balloon.actual - vmm.balloon.actual;
    }
    guests_.balloon(vmm.session, balloon);
    vmm.balloon = balloon;
  }
  if (guest.stats && guest.stats->available && guest.stats->sampled_at > vmm.newest) {
    vmm.newest = guest.stats->sampled_at;
    guests_.stats(vmm.session, said(*guest.stats, clock_.wall()));
    guests_.counters(vmm.session, vmm.counters);
  }
}

/// A scheduler asks for a guest's memory before it starts the guest.
void SimulatedDaemon::reserve_for_those_to_come() {
  for (const policy::sim::GuestSpec& guest : scenario_.guests) {
    const auto due = guest.joins - kReservedBefore;
    if (guest.joins <= kReservedBefore || world_.now() < due || world_.now() >= due + std::chrono::seconds(1))
      continue;
    (void)reservations_.ask({.id = guest.name,
                             .min = guest.limits.min,
                             .max = guest.memory,
                             .within = kReservedBefore,
                             .lease = std::chrono::minutes(5)},
                            this, [](const daemon::ReservationOutcome&) {});
  }
}

/// Somebody looks at all guests each five seconds, and for one that there is not each minute.
void SimulatedDaemon::be_called() {
  const auto call = [this](const char* method, grpc::StatusCode code, std::chrono::seconds every) {
    if (world_.now() % every >= std::chrono::seconds(1)) return;
    daemon::CallCounters::Method* const counted =
        calls_.find(std::string("/balloon.v1.SchedulerService/") + method);
    ++counted->started;
    counted->seconds.observe(0.0004);
    counted->end(code);
  };
  call("ListGuests", grpc::StatusCode::OK, std::chrono::seconds(5));
  call("GetGuest", grpc::StatusCode::NOT_FOUND, std::chrono::minutes(1));
}

/// The newest target that was asked for of each guest.
void SimulatedDaemon::obey() {
  for (std::size_t i = 0; i < now_.guests.size(); ++i) {
    Vmm& vmm = vmms_.at(now_.guests[i].name);
    for (; vmm.answered < vmm.channel->asked.size(); ++vmm.answered) {
      const auto& asked = vmm.channel->asked[vmm.answered];
      world_.command(i, asked.target);
      guests_.answered(vmm.session, daemon::Request::Kind::target, asked.sequence, "");
    }
  }
}

void SimulatedDaemon::meddle() {
  if (trouble_.moved_by_another.empty() || world_.now() % std::chrono::minutes(1) >= std::chrono::seconds(1))
    return;
  for (std::size_t i = 0; i < now_.guests.size(); ++i) {
    const policy::GuestSnapshot& guest = now_.guests[i];
    if (guest.name != trouble_.moved_by_another) continue;
    const bool low = world_.now() / std::chrono::minutes(1) % 2 == 0;
    world_.command(i, guest.memory / 4 * (low ? 2 : 3));
    Vmm& vmm = vmms_.at(guest.name);
    vmm.balloon.target = world_.targets()[world_.guest_at(i)];
    guests_.balloon(vmm.session, vmm.balloon);
  }
}

}  // namespace balloon::test
