// SPDX-License-Identifier: Apache-2.0
// The page of metrics, written anew at each scrape from one published state: a scrape is consistent, holds no
// lock while it is written, and guests that are gone leave nothing behind. Names follow
// prometheus.io/docs/practices/naming.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <string>

#include "balloond/api/call_counters.h"
#include "balloond/control/counters.h"
#include "balloond/control/reservation_book.h"
#include "balloond/control/state.h"
#include "balloond/guests/backend_counters.h"
#include "balloond/journal/journal.h"
#include "balloond/needs/need_keeper.h"
#include "base/histogram.h"

namespace balloon::daemon {

class Collector {
 public:
  /// What the metrics are made from.
  struct Sources {
    const Clock& clock;
    const StateStore& states;
    const Counters& counters;
    const JournalCounters* journal = nullptr;  ///< null without one
    const ReservationBook& reservations;
    const CallCounters& calls;
    const Registry& guests;
    const NeedHistory& needs;
    const NeedKeeper& need_keeper;
    std::array<const BackendHealth*, kBackends.size()> backends;  ///< by kBackends
  };
  explicit Collector(const Sources& sources);

  /// In Prometheus' text format.
  std::string page() const;

  void observe_tick(std::chrono::nanoseconds duration, std::chrono::nanoseconds lateness);
  /// A configuration was loaded, or refused.
  void note_reload(bool good);
  void set_period(std::chrono::nanoseconds period) { period_ = period; }

 private:
  const Sources from_;
  Histogram tick_seconds_;
  Histogram lateness_seconds_;
  std::atomic<std::chrono::nanoseconds> period_{};
  std::atomic<bool> reload_good_{true};
  std::atomic<std::uint64_t> reloads_taken_{0};
  std::atomic<std::uint64_t> reloads_refused_{0};
  std::atomic<double> reload_time_;
};

}  // namespace balloon::daemon
