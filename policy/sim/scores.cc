// SPDX-License-Identifier: Apache-2.0
#include "policy/sim/scores.h"

#include <algorithm>
#include <cmath>

namespace balloon::policy::sim {
namespace {

constexpr std::int64_t kStepsPerSecond = std::chrono::seconds(1) / kStep;
constexpr double kShortPart = 0.05;         // of demand: less is satisfied
constexpr double kRiseLeast = 64 * kMiBd;   // smaller rises are noise
constexpr double kRisePart = 0.05;          // of the guest's memory
constexpr double kStillRising = 0.01;       // of demand, in a second
constexpr double kActuatorAllowance = 1.5;  // grants may take this multiple of what the actuator needs
constexpr double kStatsPeriodSeconds = 1;
/// Moves smaller than this have no direction.
constexpr Bytes kDirectionLeast = kMiB;

double since(double now, double before) { return now >= before ? now - before : now; }

}  // namespace

double cost_of(const Scores& scores) {
  return scores.deficit + scores.stall + kCostOfGuestOom * scores.oom_guest +
         kCostOfHostOom * scores.oom_host;
}

double jain_index(const std::vector<double>& values) {
  double sum = 0;
  double squares = 0;
  for (const double value : values) {
    sum += value;
    squares += value * value;
  }
  return squares > 0 ? sum * sum / (static_cast<double>(values.size()) * squares) : 1;
}

double percentile(std::vector<double> values, double part) {
  if (values.empty()) return 0;
  const auto rank = static_cast<std::size_t>(std::ceil(part * static_cast<double>(values.size())));
  const std::size_t index = std::min(values.size() - 1, rank > 0 ? rank - 1 : 0);
  std::ranges::nth_element(values, values.begin() + static_cast<std::ptrdiff_t>(index));
  return values[index];
}

RiseWatch::RiseWatch(double memory) : threshold_(std::max(kRiseLeast, kRisePart * memory)) {}

void RiseWatch::step(double demand, double deficit) {
  short_now_ = deficit >= kShortPart * demand && demand > 0;
  short_run_ = short_now_ ? short_run_ + kStepSeconds : 0;
  if (open_ && short_now_) short_time_ += kStepSeconds;
}

void RiseWatch::second(double demand, bool judged) {
  const std::size_t known = std::min(seconds_, kTrail);
  double least = demand;
  for (std::size_t i = 0; i < known; ++i) least = std::min(least, trail_[i]);
  if (open_) {
    peak_ = std::max(peak_, demand);
    const bool rising = demand > last_ * (1 + kStillRising);
    if (demand < (base_ + peak_) / 2) {
      close(!was_short_);  // as it was before the demand fell
    } else if (!short_now_ && !rising) {
      close(true);
    }
  } else if (judged && demand - least >= threshold_ && demand > last_) {
    open_ = true;
    base_ = least;
    peak_ = demand;
    short_time_ = std::min(short_run_, static_cast<double>(kTrail));
  }
  trail_[seconds_ % kTrail] = demand;
  ++seconds_;
  last_ = demand;
  was_short_ = short_now_;
}

void RiseWatch::close(bool satisfied) {
  times_.push_back(short_time_);
  if (!satisfied) unsatisfied_ += 1;
  open_ = false;
  seconds_ = 0;  // the next rise is measured from here
}

void RiseWatch::end() {
  if (open_) close(!short_now_);
}

ScoreKeeper::ScoreKeeper(const World& world) {
  for (const GuestSpec& spec : world.scenario().guests)
    guests_.push_back({RiseWatch(static_cast<double>(spec.memory)), {}, 0, 0, 0, 0});
  demands_.resize(guests_.size());
  deficits_.resize(guests_.size());
}

bool ScoreKeeper::judged(const World& world) {
  const std::vector<Window>& windows = world.scenario().judged;
  if (windows.empty()) return true;
  const Time step_began = world.now() - kStep;
  while (window_ < windows.size() && windows[window_].to <= step_began) ++window_;
  return window_ < windows.size() && windows[window_].from <= step_began;
}

void ScoreKeeper::step(const World& world) {
  const bool count = judged(world);
  if (!count && was_judged_) {
    for (Guest& guest : guests_) guest.rises.end();
  }
  was_judged_ = count;
  const auto guests = world.guests();
  const auto wants = world.wants();
  for (std::size_t i = 0; i < guests_.size(); ++i) {
    if (!world.expected(i)) {
      demands_[i] = deficits_[i] = 0;
      continue;
    }
    demands_[i] = guests[i].demand(wants[i]);
    deficits_[i] = guests[i].deficit(wants[i]);
    guests_[i].rises.step(demands_[i], deficits_[i]);
    if (!count) continue;
    guests_[i].deficit += deficits_[i] / kGiBd * kStepSeconds;
    scores_.stall += std::min(1.0, guests[i].stalled() + guests[i].host_stalled()) * kStepSeconds;
    if (world.targets()[i] + static_cast<Bytes>(kPageBytes) <= world.limits()[i].min)
      scores_.min_violations += kStepSeconds;
  }
  if (++steps_ % kStepsPerSecond == 0) second(world, count);
}

/// Counters' progress since the last second; a guest that started again counts from 0.
void ScoreKeeper::second(const World& world, bool count) {
  double ballooned = 0;
  for (std::size_t i = 0; i < guests_.size(); ++i) {
    Guest& guest = guests_[i];
    const GuestCounters& now = world.guests()[i].counters();
    if (world.expected(i)) guest.rises.second(demands_[i], count);
    if (count) {
      const GuestCounters& last = guest.counted;
      scores_.major_faults += since(now.major_faults, last.major_faults);
      scores_.refaults += since(now.refaulted, last.refaulted) / kGiBd;
      scores_.guest_swap_in += since(now.swap_in, last.swap_in) / kGiBd;
      scores_.guest_swap_out += since(now.swap_out, last.swap_out) / kGiBd;
      scores_.oom_guest += since(now.oom_kills, last.oom_kills);
      scores_.moved += since(now.moved, last.moved) / kGiBd;
      ballooned += world.guests()[i].memory().balloon;
    }
    guest.counted = now;
  }
  const HostCounters& host = world.host().counters();
  if (count) {
    scores_.host_swap_in += (host.swap_in - host_counted_.swap_in) / kGiBd;
    scores_.host_swap_out += (host.swap_out - host_counted_.swap_out) / kGiBd;
    scores_.oom_host += host.oom_kills - host_counted_.oom_kills;
    scores_.psi_some += host.some_seconds - host_counted_.some_seconds;
    scores_.psi_full += host.full_seconds - host_counted_.full_seconds;
    scores_.reclaimed += ballooned / kGiBd;
    judged_seconds_ += 1;
    satisfy(world);
  }
  host_counted_ = host;
}

/// What each guest is entitled to: its demand where the host has enough for all, else its weighted share.
void ScoreKeeper::satisfy(const World& world) {
  const HostPlant& host = world.host();
  const double capacity = host.total() - host.memory().own - host.memory().arc - host.low_watermark();
  double demand = 0;
  for (const double mine : demands_) demand += mine;
  const bool short_of_memory = demand > capacity;
  if (short_of_memory) {
    claims_.clear();
    for (std::size_t i = 0; i < guests_.size(); ++i) {
      const auto wanted = static_cast<Bytes>(demands_[i]);
      const GuestLimits& limits = world.limits()[i];
      claims_.push_back({std::min(limits.min, wanted), wanted, std::max(1U, limits.weight)});
    }
    water_fill(claims_, static_cast<Bytes>(std::max(0.0, capacity)), shares_, space_);
  }
  for (std::size_t i = 0; i < guests_.size(); ++i) {
    if (!world.expected(i) || demands_[i] <= 0) continue;
    const double entitled = short_of_memory ? static_cast<double>(shares_[i]) : demands_[i];
    const double has = std::max(0.0, demands_[i] - deficits_[i]);
    guests_[i].satisfaction += entitled > 0 ? std::min(1.0, has / entitled) : 1;
    guests_[i].seconds += 1;
  }
}

void ScoreKeeper::resized(const World& world, std::size_t guest, Bytes from, Bytes to) {
  Guest& mine = guests_[guest];
  const Bytes change = to > from ? to - from : from - to;
  const int direction = change < kDirectionLeast ? mine.direction : to > from ? 1 : -1;
  const bool reversal = mine.direction != 0 && direction != mine.direction;
  mine.direction = direction;
  if (!judged(world)) return;
  scores_.resizes += 1;
  if (reversal) scores_.reversals += 1;
}

void ScoreKeeper::reservations(const World& world) {
  std::vector<double> times;
  for (const ReservationOutcome& outcome : world.reservations()) {
    if (outcome.asked_at >= world.now()) continue;
    scores_.reservations += 1;
    if (outcome.state != GrantState::granted) continue;
    const double took = std::chrono::duration<double>(outcome.decided_at - outcome.asked_at).count();
    times.push_back(took);
    const Time deadline = world.scenario().guests[outcome.guest].reservation->deadline;
    if (outcome.decided_at <= outcome.asked_at + deadline) scores_.granted += 1;
    if (outcome.false_accept) {
      scores_.false_accepts += 1;
      continue;
    }
    const double needed =
        outcome.missing_at_request / world.scenario().speeds.inflate_cache + kStatsPeriodSeconds;
    scores_.grant_excess = std::max(scores_.grant_excess, took - kActuatorAllowance * needed);
  }
  scores_.grant_p50 = percentile(times, 0.50);
  scores_.grant_p99 = percentile(times, 0.99);
}

Scores ScoreKeeper::finish(const World& world) {
  std::vector<double> times;
  std::vector<double> satisfaction;
  for (Guest& guest : guests_) {
    guest.rises.end();
    times.insert(times.end(), guest.rises.times().begin(), guest.rises.times().end());
    scores_.unsatisfied += guest.rises.unsatisfied();
    scores_.deficit += guest.deficit;
    if (guest.seconds > 0) satisfaction.push_back(guest.satisfaction / guest.seconds);
  }
  scores_.rises = static_cast<double>(times.size());
  scores_.t95_p50 = percentile(times, 0.50);
  scores_.t95_p99 = percentile(times, 0.99);
  scores_.t95_max = times.empty() ? 0 : std::ranges::max(times);
  scores_.jain = jain_index(satisfaction);
  scores_.satisfaction_min = satisfaction.empty() ? 1 : std::ranges::min(satisfaction);
  if (judged_seconds_ > 0) scores_.reclaimed /= judged_seconds_;
  reservations(world);
  scores_.cost = cost_of(scores_);
  return scores_;
}

std::vector<GuestScores> ScoreKeeper::guests() const {
  std::vector<GuestScores> all;
  all.reserve(guests_.size());
  for (const Guest& guest : guests_)
    all.push_back({guest.deficit, guest.seconds > 0 ? guest.satisfaction / guest.seconds : 1});
  return all;
}

}  // namespace balloon::policy::sim
