// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/balloon/balloon_hub.h"

#include <algorithm>
#include <utility>

namespace balloon::vmm {

BalloonHub::BalloonHub(BalloonControl& balloon) : balloon_(balloon) {
  for (View& view : views_) view.hub = this;
  balloon_.observe(
      [this](const BalloonStats& stats) {
        const std::lock_guard lock(mutex_);
        for (const View& view : views_) {
          if (view.stats_observer) view.stats_observer(stats);
        }
      },
      [this](const BalloonState& state) {
        const std::lock_guard lock(mutex_);
        for (const View& view : views_) {
          if (view.state_observer) view.state_observer(state);
        }
      });
}

BalloonHub::~BalloonHub() { balloon_.observe({}, {}); }

void BalloonHub::View::set_stats_interval(std::chrono::nanoseconds wanted) {
  const std::lock_guard lock(hub->interval_mutex_);
  interval = wanted;
  std::chrono::nanoseconds shortest{};
  for (const View& view : hub->views_) {
    if (view.interval > view.interval.zero() && (shortest == shortest.zero() || view.interval < shortest))
      shortest = view.interval;
  }
  hub->balloon_.set_stats_interval(shortest);
}

void BalloonHub::View::observe(std::function<void(const BalloonStats&)> on_stats,
                               std::function<void(const BalloonState&)> on_state) {
  const std::lock_guard lock(hub->mutex_);
  stats_observer = std::move(on_stats);
  state_observer = std::move(on_state);
}

}  // namespace balloon::vmm
