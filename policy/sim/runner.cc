// SPDX-License-Identifier: Apache-2.0
#include "policy/sim/runner.h"

#include <algorithm>
#include <optional>

#include "policy/executor.h"
#include "policy/sim/foresight.h"
#include "policy/urgency.h"

namespace balloon::policy::sim {
namespace {

Contender contender_of(const peers::Law& law) {
  return {std::string(law.name),
          std::string(law.summary),
          law.period,
          law.admit,
          law.urgent,
          [make = law.make](const Scenario& scenario, std::uint64_t) { return make(scenario.tunables); },
          law.stats_period};
}

Contender foresight() {
  return {"foresight-2s",
          "knows what everybody will want in the next 2 s, and shares it by weight",
          Foresight::kPeriod,
          admit,
          nullptr,
          [](const Scenario& scenario, std::uint64_t seed) {
            return std::make_unique<Foresight>(scenario, seed);
          },
          {}};
}

Contender hindsight() {
  return {"hindsight-1s",
          "knows what everybody wanted 1 s ago, each second, and shares it by weight",
          peers::laws().front().period,
          admit,
          nullptr,
          [](const Scenario& scenario, std::uint64_t seed) {
            return std::make_unique<Foresight>(scenario, seed, Foresight::kHindsight);
          },
          {}};
}

/// Guests send their statistics as often as the law would have them; those that send none go on so.
Scenario with_statistics_each(const Scenario& scenario, Time period) {
  Scenario faster = scenario;
  for (GuestSpec& guest : faster.guests) guest.stats.period = std::min(guest.stats.period, period);
  return faster;
}

class Recorder {
 public:
  Recorder(const World& world, std::size_t samples, Series& series)
      : series_(series),
        every_(world.scenario().duration / static_cast<std::int64_t>(std::max<std::size_t>(1, samples))) {
    on_ = samples > 0;
    if (!on_) return;
    for (const GuestSpec& guest : world.scenario().guests) series.guests.push_back(guest.name);
    series.size.resize(series.guests.size());
    series.demand.resize(series.guests.size());
    series.missing.resize(series.guests.size());
  }

  void step(const World& world) {
    if (!on_ || world.now() < next_) return;
    next_ += every_;
    series_.time.push_back(std::chrono::duration<double>(world.now()).count());
    for (std::size_t i = 0; i < series_.guests.size(); ++i) {
      const GuestPlant& guest = world.guests()[i];
      const bool there = world.expected(i);
      series_.size[i].push_back(static_cast<float>(guest.memory().size() / kMiBd));
      series_.demand[i].push_back(there ? static_cast<float>(guest.demand(world.wants()[i]) / kMiBd) : 0.0F);
      series_.missing[i].push_back(there ? static_cast<float>(guest.deficit(world.wants()[i]) / kMiBd)
                                         : 0.0F);
    }
    series_.host_free.push_back(static_cast<float>(world.host().memory().free / kMiBd));
    series_.host_swapped.push_back(static_cast<float>(world.host().memory().swapped / kMiBd));
  }

 private:
  Series& series_;
  Time every_;
  Time next_{};
  bool on_ = false;
};

/// The daemon's loop around a law.
class Loop {
 public:
  Loop(const Scenario& scenario, const Contender& contender, std::uint64_t seed)
      : scenario_(scenario),
        contender_(contender),
        seed_(seed),
        controller_(contender.make(scenario, seed)) {}

  void tick(World& world, ScoreKeeper& keeper, RunResult& result) {
    if (!world.daemon_up()) {
      controller_.reset();
      return;
    }
    if (!controller_) {
      controller_ = contender_.make(scenario_, seed_);
      world.forget_statistics();
      next_ = world.now();
      last_.reset();
    }
    if (world.now() < next_ && !woken(world)) return;
    last_ = world.now();
    next_ = world.now() + contender_.period;
    world.snapshot(snapshot_);
    const auto began = std::chrono::steady_clock::now();
    Plan plan = controller_->decide(snapshot_);
    std::vector<Move> moves;
    if (contender_.admit != nullptr) moves = contender_.admit(plan, snapshot_.guests);
    result.decide_us +=
        std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - began).count();
    result.decisions += 1;
    if (contender_.admit == nullptr) {
      for (std::size_t i = 0; i < plan.guests.size(); ++i) {
        if (snapshot_.guests[i].controllable) moves.push_back({i, plan.guests[i].target});
      }
    }
    for (const Move& move : moves) {
      const Bytes from = snapshot_.guests[move.guest].target;
      if (world.command(move.guest, move.target))
        keeper.resized(world, world.guest_at(move.guest), from, move.target);
    }
    world.apply(plan);
    if (contender_.urgent == nullptr) return;
    // As balloond's Ticker has it.
    grows_wait_ = std::ranges::any_of(
                      plan.guests, [](const GuestPlan& guest) { return guest.reason == Reason::waiting; }) ||
                  std::ranges::any_of(plan.reservations, [](const ReservationPlan& reservation) {
                    return reservation.state == GrantState::pending;
                  });
  }

 private:
  bool woken(const World& world) const {
    return contender_.urgent != nullptr && last_ && world.now() - *last_ >= kBurstGap &&
           world.urgent(snapshot_, grows_wait_, *contender_.urgent);
  }

  const Scenario& scenario_;
  const Contender& contender_;
  std::uint64_t seed_;
  std::unique_ptr<Controller> controller_;
  Snapshot snapshot_;
  Time next_{};
  std::optional<Time> last_;
  bool grows_wait_ = false;
};

}  // namespace

const std::vector<Contender>& contenders() {
  static const std::vector<Contender> all = [] {
    std::vector<Contender> them;
    for (const peers::Law& law : peers::laws()) them.push_back(contender_of(law));
    them.push_back(foresight());
    return them;
  }();
  return all;
}

const std::vector<Contender>& contenders_at_our_timing() {
  static const std::vector<Contender> all = [] {
    std::vector<Contender> them = {contender_of(peers::laws().front())};
    for (const peers::Law& law : peers::laws_at_our_timing()) them.push_back(contender_of(law));
    them.push_back(foresight());
    return them;
  }();
  return all;
}

const Contender* find_contender(std::string_view name) {
  static const std::vector<Contender> by_name_alone = {hindsight()};
  for (const auto* some : {&contenders(), &contenders_at_our_timing(), &by_name_alone}) {
    const auto found = std::ranges::find(*some, name, &Contender::name);
    if (found != some->end()) return &*found;
  }
  return nullptr;
}

RunResult run(const Scenario& asked, const Contender& contender, const RunOptions& options) {
  std::optional<Scenario> fed;
  if (contender.stats_period > Time{}) fed = with_statistics_each(asked, contender.stats_period);
  const Scenario& scenario = fed ? *fed : asked;
  World world(scenario, options.seed);
  Loop loop(scenario, contender, options.seed);
  ScoreKeeper keeper(world);
  RunResult result;
  Recorder recorder(world, options.samples, result.series);
  while (!world.done()) {
    loop.tick(world, keeper, result);
    world.step();
    keeper.step(world);
    recorder.step(world);
  }
  result.scores = keeper.finish(world);
  result.guests = keeper.guests();
  if (result.decisions > 0) result.decide_us /= result.decisions;
  return result;
}

}  // namespace balloon::policy::sim
