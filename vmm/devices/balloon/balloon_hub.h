// SPDX-License-Identifier: Apache-2.0
// Lets several parts of the VMM use one balloon, each through a BalloonControl of its own: with its own
// observer, and its own wish how often statistics are sampled (the most frequent one counts).
#pragma once

#include <array>
#include <chrono>
#include <functional>
#include <mutex>
#include <utility>

#include "vmm/devices/balloon/balloon_control.h"

namespace balloon::vmm {

class BalloonHub {
 public:
  enum class User : std::size_t { link, monitor };
  static constexpr std::size_t kUsers = 2;

  /// `balloon` must outlive it, and be observed by nobody else.
  explicit BalloonHub(BalloonControl& balloon);
  ~BalloonHub();
  BalloonHub(const BalloonHub&) = delete;
  BalloonHub& operator=(const BalloonHub&) = delete;

  BalloonControl& of(User user) { return views_.at(static_cast<std::size_t>(user)); }

 private:
  class View final : public BalloonControl {
   public:
    BalloonState state() const override { return hub->balloon_.state(); }
    Result<void> set_target(Bytes target) override { return hub->balloon_.set_target(target); }
    void set_stats_interval(std::chrono::nanoseconds wanted) override;
    void observe(std::function<void(const BalloonStats&)> on_stats,
                 std::function<void(const BalloonState&)> on_state) override;
    void request_stats(std::function<void(Result<BalloonStats>)> reply) override {
      hub->balloon_.request_stats(std::move(reply));
    }
    void drop_free_pages(std::function<void(Result<Bytes>)> reply) override {
      hub->balloon_.drop_free_pages(std::move(reply));
    }
    BalloonCounters counters() const override { return hub->balloon_.counters(); }

    BalloonHub* hub = nullptr;
    std::chrono::nanoseconds interval{};
    std::function<void(const BalloonStats&)> stats_observer;
    std::function<void(const BalloonState&)> state_observer;
  };

  BalloonControl& balloon_;
  std::mutex interval_mutex_;
  std::mutex mutex_;  ///< of the views' observers. Lock order: the balloon's own mutex, then this
  std::array<View, kUsers> views_;
};

}  // namespace balloon::vmm
