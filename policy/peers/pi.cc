// SPDX-License-Identifier: Apache-2.0
#include "policy/peers/pi.h"

#include <algorithm>
#include <cmath>

#include "policy/peers/plans.h"
#include "policy/peers/readings.h"

namespace balloon::policy::peers {
namespace {

struct Ram {
  double available = 0;
  double total = 0;
};

/// Available memory, or free and caches of guests that do not report it.
std::optional<Ram> reported_ram(const GuestSnapshot& guest) {
  if (!guest.stats) return std::nullopt;
  const auto total = known(guest.stats->total);
  if (!total) return std::nullopt;
  if (const auto available = known(guest.stats->available)) return Ram{*available, *total};
  const auto free = known(guest.stats->free);
  const auto caches = known(guest.stats->disk_caches);
  if (!free || !caches) return std::nullopt;
  return Ram{*free + *caches, *total};
}

/// What the guest uses without caches and balloon; from the host, with caches, when it has no statistics.
/// A driver under which MemTotal stays what it was counts the balloon as used.
std::optional<double> usage(const std::optional<double>& first_total, const GuestSnapshot& guest) {
  const auto ram = reported_ram(guest);
  if (!ram) {
    if (guest.on_host.resident == Bytes{0}) return std::nullopt;
    return static_cast<double>(std::min(guest.on_host.resident, guest.memory));
  }
  const double used = ram->total - ram->available;
  if (ram->total != first_total) return used;
  return used - (static_cast<double>(guest.memory) - static_cast<double>(guest.stats->actual));
}

}  // namespace

Plan PiLoops::decide(const Snapshot& snapshot) {
  Plan plan = hold(snapshot);
  grant_unseen(snapshot, Promise::maximum, plan);
  loops_.align(snapshot);
  for (std::size_t i = 0; i < snapshot.guests.size(); ++i) {
    if (snapshot.guests[i].controllable)
      turn(loops_[i], snapshot.guests[i], snapshot.host, snapshot.now, plan.guests[i]);
  }
  return plan;
}

void PiLoops::turn(Loop& loop, const GuestSnapshot& guest, const HostSnapshot& host, Time now,
                   GuestPlan& plan) const {
  if (!loop.first_total) {
    const auto ram = reported_ram(guest);
    if (!ram) {  // it waits for the first statistics
      plan.state = GuestState::stale;
      return;
    }
    loop.first_total = ram->total;
  }
  if (host.total == Bytes{0} || guest.memory == Bytes{0}) return;

  const auto memory = static_cast<double>(guest.memory);
  const double least =
      std::trunc(guest.limits.min > Bytes{0} ? static_cast<double>(std::min(guest.limits.min, guest.memory))
                                             : settings_.min_mem * memory);
  const Range bounds = range(loop, guest, host, least);
  const double host_free =
      static_cast<double>(std::min(host.available, host.total)) / static_cast<double>(host.total);
  double passed = settings_.interval;
  if (loop.turned_at && now > *loop.turned_at)
    passed = std::min(passed, std::chrono::duration<double>(now - *loop.turned_at).count());
  loop.turned_at = now;
  const double target = control(loop, guest, host_free, passed, bounds);

  const double last = loop.last_target.value_or(memory);
  const bool far = std::abs(target - last) >= static_cast<double>(settings_.hysteresis);
  if (target != last && (far || target == bounds.high || target == bounds.low)) {
    ask(guest, target, plan);
    loop.last_target = target;
  }
}

/// Between the minimum, or what the guest uses unless the host is over its hard threshold, and a ceiling that
/// falls to the minimum as the host's pressure rises.
PiLoops::Range PiLoops::range(const Loop& loop, const GuestSnapshot& guest, const HostSnapshot& host,
                              double least) const {
  const auto memory = static_cast<double>(guest.memory);
  Range range{least, memory};
  const double psi = 100 * host.pressure_some;
  if (psi >= settings_.psi_pressure) {
    const double part =
        std::min(1.0, (psi - settings_.psi_pressure) / (settings_.psi_pressure_max - settings_.psi_pressure));
    range.high = std::trunc(memory - part * (memory - least));
  }
  const double free = 100.0 * static_cast<double>(host.available) / static_cast<double>(host.total);
  if (free >= 100 - settings_.ram_threshold_hard) {
    const auto used = usage(loop.first_total, guest);
    range.low = std::max(least, used.value_or(0.0));
  }
  return range;
}

double PiLoops::control(Loop& loop, const GuestSnapshot& guest, double host_free, double passed,
                        const Range& range) const {
  const auto memory = static_cast<double>(guest.memory);
  const double actual = guest.actual > Bytes{0} ? static_cast<double>(guest.actual) : memory;
  const double error = (1 - settings_.ram_threshold / 100) - host_free;
  const double integral = std::clamp(loop.integral + error * passed, -1.0, 1.0);
  const double wanted = std::trunc(actual - (settings_.kp * error + settings_.ki * integral) * memory);
  const double target = std::min(range.high, std::max(range.low, wanted));

  // Against wind-up: at a bound the integral is what would just lead there.
  const bool low = target == range.low && error > 0;
  const bool high = target == range.high && error < 0;
  loop.integral = integral;
  if (low || high) {
    const double bound = low ? range.low : range.high;
    const double back = (actual - bound) / (settings_.ki * memory) - settings_.kp * error / settings_.ki;
    loop.integral = settings_.ki > 0 ? std::clamp(back, -1.0, 1.0) : 0.0;
  }
  return target;
}

}  // namespace balloon::policy::peers
