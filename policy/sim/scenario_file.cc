// SPDX-License-Identifier: Apache-2.0
#include "policy/sim/scenario_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <span>
#include <string>
#include <utility>

#include "base/strict_yaml.h"
#include "policy/sim/effects_file.h"
#include "policy/sim/scenario_values.h"
#include "policy/sim/signal_file.h"

namespace balloon::policy::sim {
namespace {

using yaml::Map;
using yaml::Value;

/// More guests than this in one file are a mistake.
constexpr std::uint32_t kMostGuests = 10'000;

using LieName = std::pair<std::string_view, Lie>;
constexpr std::array kLies = {
    LieName{"none", Lie::none},
    LieName{"available_zero", Lie::available_zero},
    LieName{"available_unknown", Lie::available_unknown},
    LieName{"available_above_total", Lie::available_above_total},
    LieName{"counters_back", Lie::counters_back},
    LieName{"frozen", Lie::frozen},
};
using DriverName = std::pair<std::string_view, Driver>;
constexpr std::array kDrivers = {
    DriverName{"normal", Driver::normal},
    DriverName{"absent", Driver::absent},
    DriverName{"stuck", Driver::stuck},
    DriverName{"slow", Driver::slow},
};
using EventName = std::pair<std::string_view, Event::Kind>;
constexpr std::array kEvents = {
    EventName{"daemon_down", Event::Kind::daemon_down},
    EventName{"backend_hangs", Event::Kind::backend_hangs},
    EventName{"stats_silent", Event::Kind::stats_silent},
    EventName{"stats_lie", Event::Kind::stats_lie},
    EventName{"link_lost", Event::Kind::link_lost},
    EventName{"limits_change", Event::Kind::limits_change},
};
using SurplusName = std::pair<std::string_view, Surplus>;
constexpr std::array kSurpluses = {SurplusName{"headroom", Surplus::headroom},
                                   SurplusName{"guests", Surplus::guests},
                                   SurplusName{"wanted", Surplus::wanted}};
void read_host(Map& map, const HostEffects& effects, HostSpec& host) {
  map.bytes("memory", host.memory);
  if (host.memory == Bytes{0}) map.complain("expected a host with memory");
  host.own = constant(static_cast<double>(600 * kMiB));
  read_signal(map, "own", Unit::bytes, host.own);
  read_signal(map, "cache", Unit::bytes, host.cache);
  read_signal(map, "arc", Unit::bytes, host.arc);
  map.with("arc_min", [&](const Value& value) { value.read_bytes(host.arc_min.emplace()); });
  map.map("swap", [&](Map& swap) { read_swap(swap, effects.device_costs, host.swap); });
  map.map("ksm", [&](Map& ksm) {
    host.ksm.present = true;
    ksm.field("run", host.ksm.run);
    std::uint32_t pages = static_cast<std::uint32_t>(host.ksm.pages_to_scan);
    ksm.field("pages_to_scan", pages);
    host.ksm.pages_to_scan = pages;
    ksm.field("sleep", host.ksm.sleep);
  });
}

void read_stats(Map& map, StatsSpec& stats) {
  map.field("present", stats.present);
  map.field("caches", stats.caches);
  map.field("swap", stats.swap);
  map.field("pressure", stats.pressure);
  map.field("disk_reads", stats.disk_reads);
  positive(map, "period", stats.period);
  map.field("age", stats.age);
  map.field("jitter", stats.jitter);
  ratio(map, "loss", stats.loss);
  choice<Lie>(map, "lie", kLies, stats.lie);
}

void read_limits(Map& map, Bytes memory, GuestLimits& limits) {
  map.bytes("min", limits.min);
  limits.max = memory;
  map.bytes("max", limits.max);
  map.field("weight", limits.weight);
  map.field("group", limits.group);
  map.field("ksm", limits.ksm);
  if (limits.min > limits.max)
    map.complain(fmt::format("min {} is above max {}", format_bytes(limits.min), format_bytes(limits.max)));
  if (limits.max > memory)
    map.complain(fmt::format("max {} is above memory {}", format_bytes(limits.max), format_bytes(memory)));
  if (limits.weight == 0) map.complain("expected a weight above 0");
}

void read_balloon(Map& map, GuestSpec& guest) {
  choice<Driver>(map, "driver", kDrivers, guest.driver);
  map.bytes("stuck_at", guest.stuck_at);
  if ((guest.driver == Driver::stuck) != (guest.stuck_at > Bytes{0}))
    map.complain("driver: stuck and stuck_at belong together");
  map.field("pinned", guest.pinned);
  map.field("deflate_on_oom", guest.deflate_on_oom);
  map.field("free_page_reporting", guest.free_page_reporting);
  map.field("latency", guest.command_latency);
}

void read_reservation(Map& map, const GuestSpec& guest, ReservationSpec& out) {
  out.min = out.max = guest.memory;
  map.require("at");
  map.field("at", out.at);
  map.bytes("min", out.min);
  map.bytes("max", out.max);
  map.field("priority", out.priority);
  positive(map, "deadline", out.deadline);
  map.field("start_after", out.start_after);
  if (out.min > out.max) map.complain("min is above max");
}

/// `count` guests of one description: each `stagger` later than the one before.
void read_guest(Map& map, const Effects& effects, std::vector<GuestSpec>& out) {
  GuestSpec guest;
  guest.effects = effects.guest;
  guest.stats.disk_reads = effects.host.as_balloond;
  std::uint32_t count = 1;
  Time stagger{};
  map.require("name");
  map.field("name", guest.name);
  map.with("count", [&](const Value& value) {
    if (value.read(count) && (count == 0 || count > kMostGuests))
      value.complain(fmt::format("expected 1 to {} guests", kMostGuests));
  });
  map.bytes("memory", guest.memory);
  if (guest.memory == Bytes{0}) map.complain("expected a guest with memory");
  guest.limits.min = std::min(guest.limits.min, guest.memory);
  read_limits(map, guest.memory, guest.limits);
  read_signal(map, "anon", Unit::bytes, guest.anon);
  read_signal(map, "hot", Unit::bytes, guest.hot);
  read_signal(map, "cold", Unit::bytes, guest.cold);
  read_signal(map, "stream", Unit::bytes, guest.stream);
  read_signal(map, "arc", Unit::bytes, guest.arc);
  read_signal(map, "kernel", Unit::bytes, guest.kernel);
  read_signal(map, "mergeable", Unit::ratio, guest.mergeable);
  read_signal(map, "busy", Unit::ratio, guest.busy);
  ratio(map, "anon_idle", guest.anon_idle);
  speed(map, "cold_rate", guest.cold_rate);
  map.field("cold_counts", guest.cold_counts);
  map.field("shift", guest.shift);
  map.field("stagger", stagger);
  map.map("swap", [&](Map& swap) { read_swap(swap, effects.host.device_costs, guest.swap); });
  map.map("disk", [&](Map& disk) { read_disk(disk, guest.disk); });
  map.map("effects", [&](Map& own) { read_guest_effects(own, guest.effects); });
  map.map("balloon", [&](Map& balloon) { read_balloon(balloon, guest); });
  map.map("stats", [&](Map& stats) { read_stats(stats, guest.stats); });
  map.field("joins", guest.joins);
  map.with("leaves", [&](const Value& value) { value.read(guest.leaves.emplace()); });
  map.field("boot", guest.boot);
  map.map("reservation",
          [&](Map& reservation) { read_reservation(reservation, guest, guest.reservation.emplace()); });
  if (guest.reservation && guest.joins > Time{})
    map.complain("a guest with a reservation starts when it is granted: leave joins out");
  count = std::min(count, kMostGuests);
  const std::size_t digits = std::to_string(count).size();
  for (std::uint32_t i = 0; i < count; ++i) {
    GuestSpec one = guest;
    if (count > 1) one.name = fmt::format("{}-{:0{}}", guest.name, i + 1, digits);
    const Time later = stagger * i;
    one.shift += later;
    if (one.reservation) one.reservation->at += later;
    if (one.joins > Time{}) one.joins += later;
    out.push_back(std::move(one));
  }
}

void read_event(Map& map, std::span<const GuestSpec> guests, std::vector<Event>& out) {
  Event event;
  map.require("kind");
  map.require("at");
  choice<Event::Kind>(map, "kind", kEvents, event.kind);
  map.field("at", event.at);
  map.field("until", event.until);
  const bool of_guest = event.kind != Event::Kind::daemon_down;
  const bool lasts = event.kind != Event::Kind::limits_change;
  if (lasts && event.until <= event.at) map.complain("expected 'until' after 'at'");
  map.field("guest", event.guest);
  const auto guest = std::ranges::find(guests, event.guest, &GuestSpec::name);
  if (of_guest && guest == guests.end())
    map.complain(fmt::format("expected the name of a guest, found '{}'", event.guest));
  if (!of_guest && !event.guest.empty()) map.complain("the daemon is not one guest's: leave guest out");
  if (event.kind == Event::Kind::stats_lie) {
    map.require("lie");
    choice<Lie>(map, "lie", kLies, event.lie);
  }
  if (event.kind == Event::Kind::limits_change && guest != guests.end()) {
    event.limits = guest->limits;
    read_limits(map, guest->memory, event.limits);
  }
  out.push_back(event);
}

void read_group(Map& map, std::vector<GroupLimits>& out) {
  GroupLimits group;
  map.require("name");
  map.field("name", group.name);
  map.bytes("min", group.min);
  map.bytes("max", group.max);
  map.field("weight", group.weight);
  if (group.min > group.max) map.complain("min is above max");
  if (group.weight == 0) map.complain("expected a weight above 0");
  if (std::ranges::find(out, group.name, &GroupLimits::name) != out.end())
    map.complain(fmt::format("there is a group '{}' already", group.name));
  out.push_back(group);
}

void read_window(Map& map, Time duration, std::vector<Window>& out) {
  Window window{Time{}, duration};
  map.field("from", window.from);
  map.field("to", window.to);
  if (window.to <= window.from || window.to > duration)
    map.complain("expected 'to' after 'from' and within the duration");
  if (!out.empty() && window.from < out.back().to) map.complain("begins before the last window ends");
  out.push_back(window);
}

void read_tunables(Map& map, Tunables& tunables) {
  map.bytes("host_reserve", tunables.host_reserve);
  map.field("margin_ratio", tunables.margin_ratio);
  map.bytes("margin_min", tunables.margin_min);
  positive(map, "stale_after", tunables.stale_after);
  positive(map, "stuck_after", tunables.stuck_after);
  choice<Surplus>(map, "surplus", kSurpluses, tunables.surplus);
}

void read_speeds(Map& map, Speeds& speeds) {
  map.field("cpus", speeds.cpus);
  speed_above_0(map, "install", speeds.install);
  speed_above_0(map, "touch", speeds.touch);
  speed_above_0(map, "inflate_free", speeds.inflate_free);
  speed_above_0(map, "inflate_cache", speeds.inflate_cache);
  speed_above_0(map, "deflate", speeds.deflate);
  speed_above_0(map, "file_read", speeds.file_read);
  speed_above_0(map, "background_reclaim", speeds.background_reclaim);
  speed_above_0(map, "report", speeds.report);
  positive(map, "retry", speeds.retry);
  positive(map, "anon_reuse", speeds.anon_reuse);
}

void check_names(Map& root, const Scenario& scenario) {
  if (scenario.guests.empty()) root.complain("expected at least one guest");
  for (std::size_t i = 1; i < scenario.guests.size(); ++i) {
    if (scenario.guests[i].name == scenario.guests[i - 1].name)
      root.complain(fmt::format("two guests are called '{}'", scenario.guests[i].name));
  }
  for (const GuestSpec& guest : scenario.guests) {
    if (!guest.limits.group.empty() &&
        std::ranges::find(scenario.groups, guest.limits.group, &GroupLimits::name) == scenario.groups.end())
      root.complain(
          fmt::format("guest '{}' is in group '{}', which is not there", guest.name, guest.limits.group));
  }
}

void read_scenario(Map& root, Scenario& scenario) {
  root.require("summary");
  root.field("summary", scenario.summary);
  root.require("duration");
  positive(root, "duration", scenario.duration);
  Effects effects;
  read_effects(root, effects);
  scenario.host.effects = effects.host;
  if (!effects.host.device_costs) scenario.host.swap = SwapDevice::plain_nvme(scenario.host.swap.size);
  if (!root.map("host", [&](Map& host) { read_host(host, effects.host, scenario.host); }))
    scenario.host.own = constant(static_cast<double>(600 * kMiB));
  root.list("groups",
            [&](const Value& value) { value.map([&](Map& group) { read_group(group, scenario.groups); }); });
  root.require("guests");
  root.list("guests", [&](const Value& value) {
    value.map([&](Map& guest) { read_guest(guest, effects, scenario.guests); });
  });
  std::ranges::stable_sort(scenario.guests, {}, &GuestSpec::name);
  std::ranges::stable_sort(scenario.groups, {}, &GroupLimits::name);
  check_names(root, scenario);
  root.list("events", [&](const Value& value) {
    value.map([&](Map& event) { read_event(event, scenario.guests, scenario.events); });
  });
  std::ranges::stable_sort(scenario.events, {}, &Event::at);
  root.list("judge", [&](const Value& value) {
    value.map([&](Map& window) { read_window(window, scenario.duration, scenario.judged); });
  });
  root.map("speeds", [&](Map& map) { read_speeds(map, scenario.speeds); });
  root.map("tunables", [&](Map& map) { read_tunables(map, scenario.tunables); });
}

Result<Scenario> read(const yaml::Document& document, std::string name) {
  Scenario scenario;
  scenario.name = std::move(name);
  document.root([&](Map& root) { read_scenario(root, scenario); });
  BALLOON_TRY(document.finish());
  return scenario;
}

std::string stem(const std::string& path) {
  std::string name = path.substr(path.find_last_of('/') + 1);
  if (name.ends_with(".yaml")) name.resize(name.size() - 5);
  return name;
}

/// The testbed's scenarios have phases, which no scenario here has.
bool is_of_the_testbed(const std::string& path) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("phases:")) return true;
  return false;
}

}  // namespace

Result<Scenario> parse_scenario(std::string_view text, const std::string& name) {
  const auto document = yaml::Document::parse(text, name);
  if (!document) return std::unexpected(document.error());
  return read(*document, stem(name));
}

Result<Scenario> load_scenario(const std::string& path) {
  if (is_of_the_testbed(path)) {
    return fail(fmt::format(
        "{}: a scenario of the testbed, with real guests: scripts/demo.sh or tests/testbed/scenario "
        "run it; the simulator's are in tests/scenarios/sim",
        path));
  }
  const auto document = yaml::Document::load(path);
  if (!document) return std::unexpected(document.error());
  return read(*document, stem(path));
}

}  // namespace balloon::policy::sim
