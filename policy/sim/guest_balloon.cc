// SPDX-License-Identifier: Apache-2.0
// What a guest's balloon driver does: inflating, deflating, reporting free pages.
#include <algorithm>
#include <cmath>

#include "policy/rate.h"
#include "policy/sim/guest_plant.h"

namespace balloon::policy::sim {

void GuestPlant::command(Bytes size, Time at) {
  commands_.push_back({at, static_cast<double>(std::min(size, spec_->memory))});
}

bool GuestPlant::balloon_moves(Time now) const {
  if (!driver_up(now)) return false;
  const double size = memory_.size();
  return size + kPageBytes <= target_ || (size >= target_ + kPageBytes && now >= out_of_puff_until_);
}

bool GuestPlant::reports() const {
  return speeds_.report > 0 && spec_->free_page_reporting && !spec_->pinned && unreported_ >= kReportBatch;
}

void GuestPlant::move_balloon(Time now) {
  if (!driver_up(now)) return;
  Time from = now;
  std::size_t seen = 0;
  for (; seen < commands_.size() && commands_[seen].at < now + kStep; ++seen) {
    const Time at = std::max(from, commands_[seen].at);
    move_to_target(from, at);
    target_ = commands_[seen].target;
    out_of_puff_until_ = Time{};
    from = at;
  }
  commands_.erase(commands_.begin(), commands_.begin() + static_cast<std::ptrdiff_t>(seen));
  move_to_target(from, now + kStep);
}

/// What the driver does between two moments of a step.
void GuestPlant::move_to_target(Time from, Time to) {
  double time = seconds(to - from) * slice_ / kStepSeconds;
  if (time <= 0) return;
  if (reports()) time *= kBalloonTurn;
  const double size = memory_.size();
  if (size + kPageBytes <= target_) {
    const double given = std::min(target_ - size, speeds_.deflate * time);
    memory_.balloon -= given;
    const double backed = std::min(given, memory_.balloon_backed);
    memory_.balloon_backed -= backed;
    memory_.free_backed += backed;
    memory_.free_unbacked += given - backed;
    counters_.moved += given;
    split_ += (given - backed) * spec_->effects.split;
  } else if (size >= target_ + kPageBytes && from >= out_of_puff_until_) {
    double wanted = size - target_;
    if (spec_->driver == Driver::slow) wanted = std::min(wanted, kPageBytes / 5 * time);
    if (spec_->driver == Driver::stuck)
      wanted = std::min(wanted, std::max(0.0, size - static_cast<double>(spec_->stuck_at)));
    const double taken = inflate(wanted, time);
    if (taken < wanted && taken < 1) out_of_puff_until_ = from + speeds_.retry;
  }
}

/// Takes free memory first, then what eviction can free, each at its speed, within `time` seconds.
double GuestPlant::inflate(double bytes, double time) {
  double taken = 0;
  const auto take = [&](double backed, double fresh) {
    memory_.free_backed -= backed;
    memory_.free_unbacked -= fresh;
    memory_.balloon += backed + fresh;
    if (spec_->pinned) memory_.balloon_backed += backed + fresh;
    taken += backed + fresh;
  };
  const double idle_before = idle_pool();
  const double free = std::clamp(memory_.free() - floor_, 0.0, std::min(bytes, speeds_.inflate_free * time));
  const double backed = std::min(free, memory_.free_backed);
  take(backed, free - backed);
  time -= free / speeds_.inflate_free;
  const auto over = [&](double speed, double available, auto evict) {
    const double wanted = std::min({bytes - taken, available, std::max(0.0, speed * time)});
    if (wanted <= 0) return;
    const double evicted = evict(wanted);
    take(evicted, 0);
    time -= evicted / speed;
  };
  double idle_gone = backed;
  over(speeds_.inflate_cache, memory_.cold, [&](double part) {
    const double evicted = evict_cold(part);
    idle_gone += evicted;
    return evicted;
  });
  if (memory_.arc > 0) over(speeds_.inflate_cache, memory_.arc, [&](double part) { return evict_arc(part); });
  over(speeds_.inflate_cache, memory_.hot, [&](double part) { return evict_hot(part); });
  over(spec_->swap.bandwidth / spec_->swap.write_factor, memory_.anon, [&](double part) {
    const double evicted = evict_anon(part);
    return evicted - evicted * spec_->swap.memory_ratio;
  });
  counters_.moved += taken;
  split_ = std::max(0.0, split_ - taken);  // mostly the same pages that it gave back
  if (memory_.host_swapped_idle > 0) forget_host_swap(idle_gone, idle_before);
  return taken;
}

void GuestPlant::report_free() {
  if (spec_->pinned) return;
  const double reportable = memory_.free_backed * kReportable;
  double reported = reportable * (kStepSeconds / kReportSeconds);
  if (speeds_.report > 0) {
    unreported_ = std::min(unreported_, memory_.free());
    if (!reports()) return;
    reported = std::min({reportable, unreported_, speeds_.report * slice_});
    unreported_ = std::max(0.0, unreported_ - speeds_.report * slice_);
  }
  if (reported < 1) return;
  const double before = idle_pool();
  memory_.free_backed -= reported;
  memory_.free_unbacked += reported;
  if (memory_.host_swapped_idle > 0) forget_host_swap(reported, before);
}

}  // namespace balloon::policy::sim
