// All metrics, built anew at each scrape from one published state: a scrape is consistent, and guests that
// are gone leave nothing behind. Names follow prometheus.io/docs/practices/naming.
#pragma once

#include <prometheus/collectable.h>
#include <prometheus/histogram.h>

#include <atomic>
#include <vector>

#include "balloond/control/counters.h"
#include "balloond/control/reservation_book.h"
#include "balloond/control/state.h"
#include "balloond/journal/journal.h"

namespace balloon::daemon {

class Collector final : public prometheus::Collectable {
 public:
  /// `journal`: null without one.
  Collector(const Clock& clock, const StateStore& states, const Counters& counters,
            const JournalCounters* journal, const ReservationBook& reservations);

  std::vector<prometheus::MetricFamily> Collect() const override;

  void observe_tick(std::chrono::nanoseconds duration, std::chrono::nanoseconds lateness);
  /// A configuration was loaded, or refused.
  void note_reload(bool good);

 private:
  const Clock& clock_;
  const StateStore& states_;
  const Counters& counters_;
  const JournalCounters* const journal_;
  const ReservationBook& reservations_;
  prometheus::Histogram tick_seconds_;
  prometheus::Histogram lateness_seconds_;
  std::atomic<bool> reload_good_{true};
  std::atomic<double> reload_time_;
};

}  // namespace balloon::daemon
