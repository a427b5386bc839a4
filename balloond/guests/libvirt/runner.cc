// SPDX-License-Identifier: Apache-2.0
// One thread for all libvirtds, which calls none of them itself, so that one that is slow or dead delays
// neither the daemon nor its neighbours.
#include <algorithm>
#include <condition_variable>
#include <thread>
#include <utility>

#include "balloond/guests/libvirt/client.h"
#include "balloond/guests/libvirt/host.h"
#include "balloond/guests/libvirt/module.h"
#include "base/mutex.h"

namespace balloon::daemon::libvirt {
namespace {

constexpr std::chrono::nanoseconds kSleepMax = std::chrono::seconds(10);

/// Wakes the thread. It outlives the backend where a call to libvirt does.
class Bell {
 public:
  void ring() {
    {
      const MutexLock lock(mutex_);
      ringing_ = true;
    }
    rung_.notify_one();
  }
  void wait(std::chrono::nanoseconds longest) {
    UniqueLock lock(mutex_);
    rung_.wait_for(lock.standard(), longest, [&]() REQUIRES(mutex_) { return ringing_; });
    ringing_ = false;
  }

 private:
  Mutex mutex_;
  std::condition_variable rung_;
  bool ringing_ GUARDED_BY(mutex_) = false;
};

/// The thread and what it works on.
class ThreadRunner final : public Runner {
 public:
  ThreadRunner(const Clock& clock, GuestEvents& guests, BackendHealth& health)
      : clock_(clock),
        health_(health),
        surroundings_{.clock = clock,
                      .guests = guests,
                      .wake = [bell = bell_] { bell->ring(); },
                      .stats_interval = std::chrono::seconds(1),
                      .health = health},
        thread_([this] { run(); }) {}

  ~ThreadRunner() override {
    {
      const MutexLock lock(mutex_);
      stopping_ = true;
    }
    bell_->ring();
    thread_.join();
  }
  ThreadRunner(const ThreadRunner&) = delete;
  ThreadRunner& operator=(const ThreadRunner&) = delete;

  void manage(std::vector<LibvirtHost> hosts, std::chrono::nanoseconds stats_interval) override {
    {
      const MutexLock lock(mutex_);
      order_ = Order{.hosts = std::move(hosts), .stats_interval = stats_interval};
    }
    bell_->ring();
  }

 private:
  struct Order {
    std::vector<LibvirtHost> hosts;
    std::chrono::nanoseconds stats_interval{};
  };

  void run() {
    while (true) {
      std::optional<Order> order;
      {
        const MutexLock lock(mutex_);
        if (stopping_) break;
        order = std::exchange(order_, {});
      }
      if (order) take(*order);
      Time due = clock_.now() + kSleepMax;
      for (const auto& host : hosts_) {
        host->run();
        due = std::min(due, host->due());
      }
      count();
      bell_->wait(std::max(due - clock_.now(), std::chrono::nanoseconds(0)));
    }
    hosts_.clear();
  }

  void take(const Order& order) {
    surroundings_.stats_interval = order.stats_interval;
    const auto uri_of = [](const std::unique_ptr<Host>& host) { return host->uri(); };
    std::erase_if(hosts_, [&](const auto& host) {
      return std::ranges::find(order.hosts, host->uri(), &LibvirtHost::uri) == order.hosts.end();
    });
    for (const LibvirtHost& wanted : order.hosts) {
      if (std::ranges::find(hosts_, wanted.uri, uri_of) == hosts_.end())
        hosts_.push_back(std::make_unique<Host>(surroundings_, wanted.uri));
    }
  }

  void count() {
    const auto those = [this](bool (Host::*stand)() const) {
      return static_cast<std::uint64_t>(
          std::ranges::count_if(hosts_, [&](const auto& host) { return ((*host).*stand)(); }));
    };
    health_.connected = those(&Host::connected);
    health_.failing = those(&Host::failing);
  }

  const Clock& clock_;
  BackendHealth& health_;
  const std::shared_ptr<Bell> bell_ = std::make_shared<Bell>();
  Surroundings surroundings_;
  std::vector<std::unique_ptr<Host>> hosts_;  ///< the thread's own

  Mutex mutex_;
  std::optional<Order> order_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;

  std::thread thread_;  ///< last: it uses all of these
};

Result<std::unique_ptr<Runner>> start(const Clock& clock, GuestEvents& guests, BackendHealth& health) {
  BALLOON_TRY(start_client());
  return std::make_unique<ThreadRunner>(clock, guests, health);
}

}  // namespace
}  // namespace balloon::daemon::libvirt

extern "C" {
// By the name kModuleSymbol, for balloond alone.
[[gnu::visibility("default")]] extern const balloon::daemon::libvirt::Module balloond_libvirt;
constinit const balloon::daemon::libvirt::Module balloond_libvirt{.version = BALLOON_VERSION,
                                                                  .start = balloon::daemon::libvirt::start};
}
