// SPDX-License-Identifier: Apache-2.0
// What each guest needed, day by day: the time that it needed how much. What it should be sized by is made
// from that. Any thread.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "balloond/control/state.h"
#include "balloond/needs/need_histogram.h"
#include "base/mutex.h"

namespace balloon::daemon {

/// Days are UTC's.
using Day = std::chrono::sys_days;

/// A span of days that ends now: today and so many before it, so that it is whole at any time of the day.
struct NeedWindow {
  std::string_view name;
  int days_before;
};
inline constexpr std::array<NeedWindow, 3> kNeedWindows{{{"day", 1}, {"week", 7}, {"month", 30}}};

/// What a guest needed in a window.
struct NeedFigures {
  std::chrono::seconds observed{};  ///< how much of it was seen; 0: nothing
  Bytes p95{};
  Bytes p99{};
  Bytes max{};
};
using NeedsByWindow = std::array<NeedFigures, kNeedWindows.size()>;

/// All guests' needs on one day, as they are kept.
struct DayOfNeeds {
  Day day{};
  std::map<std::string, NeedHistogram> guests{};
};

class NeedHistory {
 public:
  /// As long as there are files of that many days, the oldest is not forgotten.
  static constexpr std::size_t kDays = 400;
  /// Of more guests on one day, those are left out that were seen the least: names that come and go.
  static constexpr std::size_t kGuestsOfDay = 2000;
  /// In memory, of all days: of more, those that were seen last the longest ago are forgotten.
  static constexpr std::size_t kGuests = 2 * kGuestsOfDay;
  /// A day whose clock on the wall is set back over and over ends, too.
  static constexpr std::uint32_t kSecondsOfDay = 100'000;
  /// Between two decisions that are further apart nobody knows what was needed.
  static constexpr std::chrono::nanoseconds kGapMax = std::chrono::minutes(1);

  explicit NeedHistory(const Clock& clock) : clock_(clock) {}

  /// Control thread: counts the time since the decision before, for guests whose need is known.
  void observe(const State& state);

  /// Takes over what was kept of a day before this one's start, beside what has come since.
  void restore(const DayOfNeeds& kept);
  /// What has changed since it was taken last, day by day.
  std::vector<DayOfNeeds> take_changed();
  /// That a day could not be kept: it counts as changed again.
  void not_kept(Day day);

  /// Makes figures() anew; takes a while for many guests, without holding anybody up.
  void renew();
  /// By guest, of those that were seen in some window; as of the newest renew(). Never null.
  std::shared_ptr<const std::map<std::string, NeedsByWindow>> figures() const;
  /// What a guest needed on each day that it was seen, oldest first.
  std::vector<std::pair<Day, NeedFigures>> days_of(const std::string& guest) const;

 private:
  /// A day that is over for every window: sizes by their numbers.
  struct OldDay {
    Day day{};
    std::uint32_t seconds = 0;
    std::uint16_t p95 = 0, p99 = 0, max = 0;
  };
  struct Guest {
    std::map<Day, NeedHistogram> recent{};  ///< days that a window may have
    std::vector<OldDay> older{};            ///< oldest first
    std::chrono::nanoseconds rest{};        ///< seen, and no whole second yet
    Day last_day() const { return recent.empty() ? older.back().day : recent.rbegin()->first; }
  };
  static bool is_recent(Day day, Day today);
  static OldDay old_of(Day day, const NeedHistogram& histogram);
  static NeedFigures figures_of(const NeedHistogram& histogram);
  static NeedFigures figures_of(const OldDay& day);
  static NeedsByWindow by_window(const Guest& guest, Day today);

  /// The guest's histogram of that day; null when there is no room for one more.
  NeedHistogram* histogram_of(const std::string& name, Day day) REQUIRES(mutex_);
  /// Ends the history of the guest that was seen last the longest ago, before `today`.
  bool forget_one(Day today) REQUIRES(mutex_);
  /// Leaves out the guest that was seen the least on that day.
  void leave_one_out(Day day) REQUIRES(mutex_);
  void drop(std::map<std::string, Guest>::iterator guest, Day day) REQUIRES(mutex_);
  /// A new day: what no window has any more becomes an old day.
  void begin_day(Day today) REQUIRES(mutex_);

  const Clock& clock_;
  mutable Mutex mutex_;
  std::map<std::string, Guest> guests_ GUARDED_BY(mutex_);
  std::map<Day, std::size_t> count_ GUARDED_BY(mutex_);  ///< guests that have a histogram of the day
  std::set<Day> changed_ GUARDED_BY(mutex_);             ///< days since they were taken
  std::optional<Time> observed_at_ GUARDED_BY(mutex_);
  Day today_ GUARDED_BY(mutex_){};
  bool made_room_ GUARDED_BY(mutex_) = false;  ///< in this turn: one newcomer at a time
  std::shared_ptr<const std::map<std::string, NeedsByWindow>> figures_ GUARDED_BY(mutex_) =
      std::make_shared<std::map<std::string, NeedsByWindow>>();
};

}  // namespace balloon::daemon
