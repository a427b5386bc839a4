// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/balloon/balloon_hub.h"

#include <fmt/format.h>

#include "base/pages.h"

namespace balloon::vmm {
namespace {

std::unexpected<Error> rebooting() { return fail("the guest is rebooting"); }

}  // namespace

BalloonHub::BalloonHub(Bytes memory) : memory_(memory), last_{.actual = memory, .target = memory} {
  for (View& view : views_) view.hub = this;
}

void BalloonHub::attach(BalloonControl& balloon) {
  const MutexLock lock(device_mutex_);
  if (!target_) target_ = balloon.state().target;
  // It was taken for this guest's memory before, which no reboot changes: no device refuses it.
  [[maybe_unused]] const auto set = balloon.set_target(*target_);
  balloon.observe([this](const BalloonStats& stats) { tell(stats); },
                  [this](const BalloonState& state) { tell(state); });
  balloon.set_stats_interval(shortest_interval());
  balloon_ = &balloon;
  tell(balloon.state());
}

void BalloonHub::detach() {
  const MutexLock lock(device_mutex_);
  if (balloon_ == nullptr) return;
  balloon_->observe({}, {});
  last_ = balloon_->state();
  last_.driver_ready = false;
  balloon_ = nullptr;
  tell(last_);
}

std::chrono::nanoseconds BalloonHub::shortest_interval() const {
  std::chrono::nanoseconds shortest{};
  for (const View& view : views_) {
    if (view.interval > view.interval.zero() && (shortest == shortest.zero() || view.interval < shortest))
      shortest = view.interval;
  }
  return shortest;
}

void BalloonHub::tell(const BalloonStats& stats) const {
  const MutexLock lock(observers_mutex_);
  for (const View& view : views_) {
    if (view.stats_observer) view.stats_observer(stats);
  }
}

void BalloonHub::tell(const BalloonState& state) const {
  const MutexLock lock(observers_mutex_);
  for (const View& view : views_) {
    if (view.state_observer) view.state_observer(state);
  }
}

BalloonState BalloonHub::View::state() const {
  const MutexLock lock(hub->device_mutex_);
  return hub->balloon_ != nullptr ? hub->balloon_->state() : hub->last_;
}

Result<void> BalloonHub::View::set_target(Bytes target) {
  const MutexLock lock(hub->device_mutex_);
  if (hub->balloon_ != nullptr) {
    BALLOON_TRY(hub->balloon_->set_target(target));
    hub->target_ = target;
    return {};
  }
  if (target > hub->memory_) {
    return fail(fmt::format("target {} is above the guest's boot memory of {}", format_bytes(target),
                            format_bytes(hub->memory_)));
  }
  hub->target_ = hub->last_.target = whole_pages(target);
  hub->tell(hub->last_);
  return {};
}

void BalloonHub::View::set_stats_interval(std::chrono::nanoseconds wanted) {
  const MutexLock lock(hub->device_mutex_);
  interval = wanted;
  if (hub->balloon_ != nullptr) hub->balloon_->set_stats_interval(hub->shortest_interval());
}

void BalloonHub::View::observe(std::function<void(const BalloonStats&)> on_stats,
                               std::function<void(const BalloonState&)> on_state) {
  const MutexLock lock(hub->observers_mutex_);
  stats_observer = std::move(on_stats);
  state_observer = std::move(on_state);
}

void BalloonHub::View::request_stats(std::function<void(Result<BalloonStats>)> reply) {
  const MutexLock lock(hub->device_mutex_);
  hub->balloon_ != nullptr ? hub->balloon_->request_stats(std::move(reply)) : reply(rebooting());
}

void BalloonHub::View::drop_free_pages(std::function<void(Result<Bytes>)> reply) {
  const MutexLock lock(hub->device_mutex_);
  hub->balloon_ != nullptr ? hub->balloon_->drop_free_pages(std::move(reply)) : reply(rebooting());
}

BalloonCounters BalloonHub::View::counters() const {
  const MutexLock lock(hub->device_mutex_);
  return hub->balloon_ != nullptr ? hub->balloon_->counters() : BalloonCounters{};
}

}  // namespace balloon::vmm
