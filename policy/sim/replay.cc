// SPDX-License-Identifier: Apache-2.0
#include "policy/sim/replay.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <utility>

#include "policy/engine.h"
#include "policy/holdings.h"

namespace balloon::policy::sim {
namespace {

/// One law that decides a recording.
class Decider {
 public:
  explicit Decider(const Alternate& alternate) : alternate_(alternate) {}

  /// As the recorded law began, or as if it did.
  void begin(const Tunables& recorded) {
    engine_.reset();
    law_.reset();
    decided_.reset();
    last_ = {};
    if (alternate_.law != nullptr) {
      law_ = alternate_.law->make({});
    } else {
      tunables_ = alternate_.tunables.value_or(recorded);
      engine_.emplace(tunables_);
    }
  }

  const Plan& decide(const recording::Tick& tick, const Tunables& recorded) {
    const Snapshot* seen = &tick.snapshot;
    if (alternate_.regrant) {
      snapshot_ = tick.snapshot;
      alternate_.regrant(tick, snapshot_);
      seen = &snapshot_;
    }
    if (law_) return decide_by_law(*seen);
    if (!alternate_.tunables && !recording::same(tunables_, recorded)) {
      tunables_ = recorded;
      engine_->set_tunables(tunables_);
    }
    last_ = engine_->decide(*seen);
    return last_;
  }

 private:
  /// A law with a longer period says nothing in between: its last targets stand, for guests that it knew.
  const Plan& decide_by_law(const Snapshot& seen) {
    if (!decided_ || seen.now < *decided_ || seen.now - *decided_ >= alternate_.law->period) {
      decided_ = seen.now;
      last_ = law_->decide(seen);
      return last_;
    }
    Plan plan = std::move(last_);
    last_ = {.state = plan.state,
             .level = plan.level,
             .budget = plan.budget,
             .guests = {},
             .reservations = {},
             .ksm = plan.ksm};
    for (const GuestSnapshot& guest : seen.guests) {
      const auto known = std::ranges::find(plan.guests, guest.name, &GuestPlan::name);
      GuestPlan& mine = last_.guests.emplace_back();
      if (known != plan.guests.end()) mine = *known;
      mine.name = guest.name;
      if (known == plan.guests.end()) mine.target = guest.target;
    }
    return last_;
  }

  const Alternate& alternate_;
  Tunables tunables_;
  std::optional<Engine> engine_;
  std::unique_ptr<Controller> law_;
  std::optional<Time> decided_;
  Snapshot snapshot_;
  Plan last_;
};

/// Compares what was decided with what is decided now.
class Judge {
 public:
  Judge(ReplayReport& report, const ReplayOptions& options, bool exactly)
      : report_(report), options_(options), exactly_(exactly) {}

  /// True when anything is different.
  bool compare(const recording::Tick& tick, const Plan& plan, bool counts) {
    if (exactly_ && recording::same(tick.plan, plan)) {
      if (counts)
        for (const GuestPlan& guest : plan.guests) note_same(guest.name);
      return false;
    }
    bool different = false;
    const bool state = tick.plan.state != plan.state;
    const std::size_t guests = std::min(tick.plan.guests.size(), plan.guests.size());
    for (std::size_t i = 0; i < guests; ++i) {
      const GuestPlan& recorded = tick.plan.guests[i];
      if (!options_.guest.empty() && recorded.name != options_.guest) continue;
      different |= compare(tick, recorded, plan.guests[i], counts);
    }
    if (options_.guest.empty()) {
      different |= state;
      if (exactly_ && !different) {
        different = true;  // KSM, a reservation, the budget
        if (counts) note_first(tick, "", host_difference(tick.plan, plan), {}, {});
      } else if (state && counts) {
        note_first(tick, "", host_difference(tick.plan, plan), {}, {});
      }
    }
    if (counts && state) ++report_.host_states;
    return different;
  }

 private:
  GuestReplay& entry(const std::string& name) { return report_.guests[name]; }

  void note_same(const std::string& name) {
    if (options_.guest.empty() || name == options_.guest) ++entry(name).ticks;
  }

  bool compare(const recording::Tick& tick, const GuestPlan& recorded, const GuestPlan& replayed,
               bool counts) {
    const bool target = recorded.target != replayed.target;
    const bool reason = recorded.reason != replayed.reason;
    const bool state = recorded.state != replayed.state;
    const bool exactly = exactly_ && !recording::same(recorded, replayed);
    const bool different = target || exactly;
    if (!counts) return different;
    GuestReplay& guest = entry(recorded.name);
    ++guest.ticks;
    guest.targets += target ? 1 : 0;
    guest.reasons += reason ? 1 : 0;
    guest.states += state ? 1 : 0;
    const bool above = replayed.target > recorded.target;
    const Bytes apart = above ? replayed.target - recorded.target : recorded.target - replayed.target;
    (above ? guest.more : guest.less) += static_cast<double>(apart);
    guest.largest = std::max(guest.largest, apart);
    if (different) {
      note_first(tick, recorded.name,
                 target   ? "another target"
                 : state  ? "another state"
                 : reason ? "another reason"
                          : "the same target for the same reason, from other figures",
                 recorded, replayed);
    }
    return different;
  }

  static std::string host_difference(const Plan& recorded, const Plan& replayed) {
    if (recorded.state != replayed.state) return "another state of the host";
    if (recorded.budget != replayed.budget) return "another budget";
    return "another level of the host, other grants of reservations, or another way to run KSM";
  }

  void note_first(const recording::Tick& tick, const std::string& guest, std::string what,
                  const GuestPlan& recorded, const GuestPlan& replayed) {
    if (report_.first) return;
    report_.first = FirstDifference{.tick = tick.number,
                                    .wall = tick.wall,
                                    .guest = guest,
                                    .what = std::move(what),
                                    .recorded = recorded,
                                    .replayed = replayed};
  }

  ReplayReport& report_;
  const ReplayOptions& options_;
  const bool exactly_;
};

/// Compares what guests had with the budget, now and shortly before.
class Keeper {
 public:
  explicit Keeper(ReplayReport& report) : report_(report) {}

  /// What was before is another run's, or not known.
  void begin() { highest_.clear(); }

  /// Amortised O(1): budgets that a later one exceeds are forgotten.
  void look_at(const recording::Tick& tick) {
    const Time now = tick.snapshot.now;
    while (!highest_.empty() && highest_.back().budget <= tick.plan.budget) highest_.pop_back();
    highest_.push_back({now, tick.plan.budget});
    while (now - highest_.front().at > kTimeToGive) highest_.pop_front();
    const Bytes had = committed(tick.plan, tick.snapshot.guests);
    const Bytes over = above(had, tick.plan.budget);
    report_.over_budget += over > Bytes{0} ? 1 : 0;
    report_.over_promised += had > highest_.front().budget ? 1 : 0;
    if (over > report_.over_budget_most) {
      report_.over_budget_most = over;
      report_.over_budget_most_at = tick.wall;
    }
  }

 private:
  struct Was {
    Time at;
    Bytes budget;
  };
  ReplayReport& report_;
  std::deque<Was> highest_;  ///< falling, the highest within kTimeToGive first
};

}  // namespace

Result<ReplayReport> replay(const std::string& path, const Alternate& alternate,
                            const ReplayOptions& options) {
  auto source = ReplaySource::open(path);
  if (!source) return std::unexpected(source.error());
  ReplayReport report;
  report.law = alternate.name;
  Decider decider(alternate);
  Judge judge(report, options, alternate.as_recorded());
  Keeper keeper(report);
  std::optional<Time> warm_at;  // until then differences do not count
  while (true) {
    const auto step = source->next();
    if (!step) return std::unexpected(step.error());
    if (*step == ReplaySource::Step::ends) break;
    const recording::Tick& tick = source->tick();
    if (*step != ReplaySource::Step::follows) {
      decider.begin(source->tunables());
      keeper.begin();
      warm_at.reset();
      if (*step == ReplaySource::Step::jumps_in && tick.snapshot.now < Time::max() - kWarmUp)
        warm_at = tick.snapshot.now + kWarmUp;
    }
    const bool counts = !warm_at || tick.snapshot.now >= *warm_at;
    const bool different = judge.compare(tick, decider.decide(tick, source->tunables()), counts);
    keeper.look_at(tick);
    if (report.ticks++ == 0) report.from = tick.wall;
    report.to = tick.wall;
    report.warm_up += counts ? 0 : 1;
    (counts ? report.different : report.warm_up_differences) += different ? 1 : 0;
    if (options.on_progress && report.ticks % 1024 == 0)
      options.on_progress(source->bytes_read(), source->bytes());
  }
  report.files = source->files();
  report.runs = source->runs();
  report.torn = source->torn();
  report.bytes = Bytes{source->bytes()};
  report.missing_files = source->missing_files();
  report.missing_ticks = source->missing_ticks();
  if (report.ticks == 0) return fail(path + ": there is no decision in it");
  if (!options.guest.empty() && report.guests.empty() && report.warm_up < report.ticks)
    return fail(fmt::format("{}: there is no guest '{}' in it", path, options.guest));
  return report;
}

}  // namespace balloon::policy::sim
