// SPDX-License-Identifier: Apache-2.0
// The guest's balloon through all its reboots, of which each brings another device. Several parts of the VMM
// use it, each through a BalloonControl of its own: with its own observer, and its own wish how often
// statistics are sampled (the most frequent one counts).
#pragma once

#include <array>
#include <chrono>
#include <functional>
#include <optional>
#include <utility>

#include "base/mutex.h"
#include "vmm/devices/balloon/balloon_control.h"

namespace balloon::vmm {

class BalloonHub {
 public:
  enum class User : std::size_t { link, monitor };
  static constexpr std::size_t kUsers = 2;

  /// `memory`: the guest's boot memory.
  explicit BalloonHub(Bytes memory);
  BalloonHub(const BalloonHub&) = delete;
  BalloonHub& operator=(const BalloonHub&) = delete;

  /// The device of the next machine, before that runs; nobody else observes it. The first one's target, which
  /// is that of the options or of a snapshot, is kept; each next one gets the target that was set last.
  void attach(BalloonControl& balloon);
  /// Before the device is destroyed: when this returns no call into it is under way. Until the next one is
  /// there targets are kept for it, and what only a guest can answer is refused.
  void detach();

  BalloonControl& of(User user) { return views_.at(static_cast<std::size_t>(user)); }
  const BalloonControl& of(User user) const { return views_.at(static_cast<std::size_t>(user)); }

 private:
  class View final : public BalloonControl {
   public:
    BalloonState state() const override;
    Result<void> set_target(Bytes target) override;
    void set_stats_interval(std::chrono::nanoseconds wanted) override;
    void observe(std::function<void(const BalloonStats&)> on_stats,
                 std::function<void(const BalloonState&)> on_state) override;
    void request_stats(std::function<void(Result<BalloonStats>)> reply) override;
    void drop_free_pages(std::function<void(Result<Bytes>)> reply) override;
    BalloonCounters counters() const override;

    BalloonHub* hub = nullptr;
    std::chrono::nanoseconds interval GUARDED_BY(hub->device_mutex_){};
    std::function<void(const BalloonStats&)> stats_observer GUARDED_BY(hub->observers_mutex_);
    std::function<void(const BalloonState&)> state_observer GUARDED_BY(hub->observers_mutex_);
  };

  // Each view's hub is this one, which the checker of annotations cannot know.
  std::chrono::nanoseconds shortest_interval() const REQUIRES(device_mutex_) NO_THREAD_SAFETY_ANALYSIS;
  void tell(const BalloonStats& stats) const EXCLUDES(observers_mutex_) NO_THREAD_SAFETY_ANALYSIS;
  void tell(const BalloonState& state) const EXCLUDES(observers_mutex_) NO_THREAD_SAFETY_ANALYSIS;

  const Bytes memory_;
  // Lock order: device_mutex_, then the balloon's own mutex, then observers_mutex_. No observer is called
  // back into a view.
  mutable Mutex device_mutex_;
  BalloonControl* balloon_ GUARDED_BY(device_mutex_) = nullptr;
  std::optional<Bytes> target_ GUARDED_BY(device_mutex_);  ///< unset: before the first device
  BalloonState last_ GUARDED_BY(device_mutex_);            ///< what is said while there is no device
  std::array<View, kUsers> views_;
  mutable Mutex observers_mutex_;
};

}  // namespace balloon::vmm
