// SPDX-License-Identifier: Apache-2.0
#include "vmm/link/outbox.h"

#include <algorithm>
#include <utility>

namespace balloon::vmm {
namespace {

/// A daemon that leaves this many answers unread does not read any.
constexpr std::size_t kMaxResults = 64;

bool is_crumb(const v1::BalloonUpdate& told, const v1::BalloonUpdate& now) {
  const std::uint64_t low = std::min(told.actual_bytes(), now.actual_bytes());
  const std::uint64_t high = std::max(told.actual_bytes(), now.actual_bytes());
  return high - low < Outbox::kBalloonStep && told.target_bytes() == now.target_bytes() &&
         told.driver_ready() == now.driver_ready() && told.paused() == now.paused();
}

}  // namespace

void Outbox::put(v1::GuestStats stats) {
  const MutexLock lock(mutex_);
  stats_ = std::move(stats);
  changed_.notify_all();
}

void Outbox::put(v1::BalloonUpdate balloon) {
  const MutexLock lock(mutex_);
  balloon_ = std::move(balloon);
  changed_.notify_all();
}

void Outbox::put(v1::BalloonCounters counters) {
  const MutexLock lock(mutex_);
  counters_ = std::move(counters);
  changed_.notify_all();
}

void Outbox::put(v1::TargetResult result) {
  v1::ConnectRequest message;
  *message.mutable_target_result() = std::move(result);
  put_result(std::move(message));
}

void Outbox::put(v1::StatsResult result) {
  v1::ConnectRequest message;
  *message.mutable_stats_result() = std::move(result);
  put_result(std::move(message));
}

void Outbox::put(v1::DropResult result) {
  v1::ConnectRequest message;
  *message.mutable_drop_result() = std::move(result);
  put_result(std::move(message));
}

void Outbox::put(v1::MergingResult result) {
  v1::ConnectRequest message;
  *message.mutable_merging_result() = std::move(result);
  put_result(std::move(message));
}

void Outbox::put_result(v1::ConnectRequest result) {
  const MutexLock lock(mutex_);
  if (results_.size() == kMaxResults) results_.pop_front();
  results_.push_back(std::move(result));
  changed_.notify_all();
}

void Outbox::open() {
  const MutexLock lock(mutex_);
  open_ = true;
  stats_.reset();
  balloon_.reset();
  balloon_told_.reset();
  counters_.reset();
  results_.clear();
}

void Outbox::close() {
  const MutexLock lock(mutex_);
  open_ = false;
  changed_.notify_all();
}

Outbox::Clock::time_point Outbox::balloon_due() const {
  if (!balloon_told_ || balloon_->actual_bytes() == balloon_->target_bytes()) return {};
  return balloon_told_at_ + (is_crumb(*balloon_told_, *balloon_) ? kBalloonCrumbPause : kBalloonPause);
}

std::optional<v1::ConnectRequest> Outbox::next(Clock::time_point now) {
  v1::ConnectRequest request;
  if (!results_.empty()) {
    request = std::move(results_.front());
    results_.pop_front();
  } else if (balloon_ && now >= balloon_due()) {
    balloon_told_ = std::exchange(balloon_, std::nullopt);
    balloon_told_at_ = now;
    *request.mutable_balloon() = *balloon_told_;
  } else if (stats_) {
    *request.mutable_stats() = *std::exchange(stats_, std::nullopt);
  } else if (counters_) {
    *request.mutable_counters() = *std::exchange(counters_, std::nullopt);
  } else {
    return std::nullopt;
  }
  return request;
}

std::optional<v1::ConnectRequest> Outbox::take_at(Clock::time_point now) {
  const MutexLock lock(mutex_);
  return open_ ? next(now) : std::nullopt;
}

std::optional<v1::ConnectRequest> Outbox::take() {
  UniqueLock lock(mutex_);
  while (open_) {
    if (auto request = next(Clock::now())) return request;
    if (balloon_) {
      changed_.wait_until(lock.standard(), balloon_due());
    } else {
      changed_.wait(lock.standard());
    }
  }
  return std::nullopt;
}

}  // namespace balloon::vmm
