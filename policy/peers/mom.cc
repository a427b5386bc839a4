// SPDX-License-Identifier: Apache-2.0
#include "policy/peers/mom.h"

#include <algorithm>
#include <cmath>

#include "policy/peers/plans.h"
#include "policy/peers/readings.h"

namespace balloon::policy::peers {
namespace {

template <typename Samples, typename Value>
double average(const Samples& samples, Value value) {
  double sum = 0;
  for (const auto& sample : samples) sum += value(sample);
  return samples.empty() ? 0 : sum / static_cast<double>(samples.size());
}

}  // namespace

MomSettings vdsm_settings() {
  MomSettings settings;
  settings.samples_per_decision = 1;  // both intervals are 15 s
  settings.scale_free_when_growing = true;
  settings.ksm.shortest_sleep = std::chrono::milliseconds(10);
  return settings;
}

Plan Mom::decide(const Snapshot& snapshot) {
  collect(snapshot);
  Plan plan = hold(snapshot);
  grant_unseen(snapshot, Promise::maximum, plan);
  if (++samples_ < settings_.samples_per_decision) return plan;
  samples_ = 0;

  const double free = average(host_free_, [](double bytes) { return bytes; });
  const double host_free =
      snapshot.host.total == Bytes{0} ? 0 : free / static_cast<double>(snapshot.host.total);
  if (host_free < settings_.pressure_threshold) plan.state = HostState::tight;
  for (std::size_t i = 0; i < snapshot.guests.size(); ++i) {
    balance(snapshot.guests[i], histories_[i], host_free, plan.guests[i]);
  }
  if (snapshot.host.ksm) plan.ksm = tune_ksm(settings_.ksm, snapshot, free);
  return plan;
}

void Mom::collect(const Snapshot& snapshot) {
  histories_.align(snapshot);
  host_free_.push_back(static_cast<double>(snapshot.host.available));
  if (host_free_.size() > settings_.sample_history_length) host_free_.pop_front();
  for (std::size_t i = 0; i < snapshot.guests.size(); ++i) {
    const GuestSnapshot& guest = snapshot.guests[i];
    History& history = histories_[i];
    const auto free = reported_free(guest);
    history.complete = guest.controllable && free.has_value();
    if (!history.complete) continue;
    history.samples.push_back({static_cast<double>(guest.actual), *free});
    if (history.samples.size() > settings_.sample_history_length) history.samples.pop_front();
  }
}

/// `host_free`: the share of the host's memory that is free.
void Mom::balance(const GuestSnapshot& guest, const History& history, double host_free,
                  GuestPlan& plan) const {
  // A guest of which a statistic is missing does not exist for the rules.
  if (!history.complete) {
    plan.state = guest.controllable ? GuestState::stale : plan.state;
    return;
  }
  const auto size = static_cast<double>(guest.actual);
  const auto low = static_cast<double>(guest.limits.min);
  const auto high = static_cast<double>(std::min(guest.limits.max, guest.memory));
  const double used = average(history.samples, [](const Sample& s) { return s.size; }) -
                      average(history.samples, [](const Sample& s) { return s.free; });
  plan.used = static_cast<Bytes>(std::clamp(used, 0.0, size));

  const bool shrink = host_free < settings_.pressure_threshold;
  double guest_free = settings_.min_guest_free_percent;
  if (shrink || settings_.scale_free_when_growing) {
    // When the host's pressure is critical, guests are forced to swap.
    guest_free = host_free <= settings_.pressure_critical
                     ? host_free - 0.05
                     : settings_.min_guest_free_percent * (host_free / settings_.pressure_threshold);
  }
  const double floor = std::max(low, used + guest_free * size);
  plan.need = static_cast<Bytes>(std::clamp(floor, 0.0, static_cast<double>(guest.memory)));

  std::optional<double> target;
  if (shrink) {
    const double next = std::max((1 - settings_.max_balloon_change_percent) * size, floor);
    if (next <= size) target = next;
  } else if (size < high) {
    target = std::min(high, std::max((1 + settings_.max_balloon_change_percent) * size, floor));
  }
  if (target && std::abs(*target - size) > settings_.min_balloon_change_percent * size) {
    ask(guest, *target, plan);
  }
  if (size < low) ask(guest, low, plan);  // doc/balloon-qos.rules
}

}  // namespace balloon::policy::peers
