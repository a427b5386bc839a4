// SPDX-License-Identifier: Apache-2.0
#include "policy/sim/sweep.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "policy/sim/bound.h"

namespace balloon::policy::sim {
namespace {

using Json = nlohmann::ordered_json;

/// Scenarios that are held in memory at a time.
constexpr std::uint64_t kBatch = 64;
/// Differences below these are none.
constexpr double kTiePart = 0.01;
constexpr double kTieLeast = 1e-3;

/// What the table shows; JSON and CSV have all.
constexpr std::array<double Scores::*, 10> kShown = {
    &Scores::cost,     &Scores::deficit,   &Scores::t95_p99, &Scores::host_swap_in, &Scores::guest_swap_in,
    &Scores::oom_host, &Scores::oom_guest, &Scores::jain,    &Scores::reversals,    &Scores::moved};

/// Below 0: `ours` is better.
int compare_values(double ours, double theirs, Better better) {
  const double difference = better == Better::higher ? theirs - ours : ours - theirs;
  const double scale = std::max(std::abs(ours), std::abs(theirs));
  if (std::abs(difference) <= std::max(kTieLeast, kTiePart * scale)) return 0;
  return difference < 0 ? -1 : 1;
}

double mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return values.empty() ? 0 : sum / static_cast<double>(values.size());
}

/// The scenario of a seed, with what is to be otherwise.
Scenario scenario_of(std::uint64_t seed, const SweepOptions& options) {
  Scenario scenario = generate(seed, options.generator);
  if (options.swap != nullptr) scenario.host.swap = options.swap(scenario.host.swap.size);
  if (options.change) options.change(scenario);
  return scenario;
}

SweepCell summarize(const Sweep& sweep, std::size_t law, const ScoreInfo& score) {
  SweepCell cell;
  std::vector<double> values;
  for (std::size_t seed = 0; seed < sweep.scores.size(); ++seed) {
    const double value = sweep.scores[seed][law].*score.value;
    const bool worse = score.better == Better::higher ? value < cell.worst : value > cell.worst;
    if (values.empty() || worse) {
      cell.worst = value;
      cell.worst_seed = sweep.options.first_seed + seed;
    }
    values.push_back(value);
    const int sign = compare_values(sweep.scores[seed][0].*score.value, value, score.better);
    (sign < 0 ? cell.wins : sign > 0 ? cell.losses : cell.ties) += 1;
  }
  cell.mean = mean(values);
  cell.median = percentile(values, 0.5);
  cell.p90 = percentile(values, score.better == Better::higher ? 0.1 : 0.9);
  return cell;
}

std::size_t index_of(double Scores::* value) {
  const auto found = std::ranges::find(kScores, value, &ScoreInfo::value);
  return static_cast<std::size_t>(found - kScores.begin());
}

}  // namespace

std::vector<BelowBound> below_bound(const Sweep& sweep) {
  constexpr double kRounding = 1e-6;
  std::vector<BelowBound> all;
  for (std::size_t seed = 0; seed < sweep.scores.size(); ++seed) {
    for (std::size_t law = 0; law < sweep.laws.size(); ++law) {
      const double cost = sweep.scores[seed][law].cost;
      if (cost < sweep.bounds[seed] * (1 - kRounding))
        all.push_back({sweep.options.first_seed + seed, sweep.laws[law], cost, sweep.bounds[seed]});
    }
  }
  return all;
}

Sweep sweep(const std::vector<const Contender*>& laws, const SweepOptions& options,
            const OnProgress& on_progress) {
  Sweep sweep{options, laws, {}, {}, {}};
  for (std::uint64_t from = 0; from < options.seeds; from += kBatch) {
    const std::uint64_t count = std::min(kBatch, options.seeds - from);
    std::vector<Scenario> scenarios;
    scenarios.reserve(count);
    for (std::uint64_t i = 0; i < count; ++i)
      scenarios.push_back(scenario_of(options.first_seed + from + i, options));
    std::vector<Job> jobs;
    for (std::uint64_t i = 0; i < count; ++i) {
      for (const Contender* law : laws)
        jobs.push_back({&scenarios[i], law, {options.first_seed + from + i, 0}});
    }
    const auto before = static_cast<std::size_t>(from) * laws.size();
    const auto all = static_cast<std::size_t>(options.seeds) * laws.size();
    const std::vector<RunResult> results = run_jobs(jobs, [&](std::size_t done, std::size_t) {
      if (on_progress) on_progress(before + done, all);
    });
    for (std::uint64_t i = 0; i < count; ++i) {
      sweep.bounds.push_back(cost_bound(scenarios[i], options.first_seed + from + i));
      std::vector<Scores>& row = sweep.scores.emplace_back();
      for (std::size_t law = 0; law < laws.size(); ++law)
        row.push_back(results[i * laws.size() + law].scores);
    }
  }
  for (std::size_t law = 0; law < laws.size(); ++law) {
    std::vector<SweepCell>& row = sweep.cells.emplace_back();
    for (const ScoreInfo& score : kScores) row.push_back(summarize(sweep, law, score));
  }
  return sweep;
}

std::string to_table(const Sweep& sweep) {
  std::string text = fmt::format(
      "{} random scenarios, seeds {} to {}; {} against each: better, as good, worse\n", sweep.options.seeds,
      sweep.options.first_seed, sweep.options.first_seed + sweep.options.seeds - 1, sweep.laws.front()->name);
  for (double Scores::* const shown : kShown) {
    const std::size_t score = index_of(shown);
    text += fmt::format("\n{}{}{}\n  {:12} {:>10} {:>10} {:>10} {:>10}   {:>6} {:>6} {:>6}\n",
                        kScores[score].name, kScores[score].unit.empty() ? "" : " ", kScores[score].unit, "",
                        "median", "p90", "worst", "worst seed", "better", "equal", "worse");
    for (std::size_t law = 0; law < sweep.laws.size(); ++law) {
      const SweepCell& cell = sweep.cells[law][score];
      text += fmt::format("  {:12} {:10.4g} {:10.4g} {:10.4g} {:10}", sweep.laws[law]->name, cell.median,
                          cell.p90, cell.worst, cell.worst_seed);
      if (law > 0) text += fmt::format("   {:6} {:6} {:6}", cell.wins, cell.ties, cell.losses);
      text += '\n';
    }
    if (shown != &Scores::cost) continue;
    text +=
        fmt::format("  {:12} {:10.4g} {:10.4g} {:10.4g}   less than this no law can have; runs that do: {}\n",
                    "bound", percentile(sweep.bounds, 0.5), percentile(sweep.bounds, 0.9),
                    percentile(sweep.bounds, 1), below_bound(sweep).size());
  }
  for (const BelowBound& run : below_bound(sweep))
    text += fmt::format("\nseed {}: {} costs {:.4g}, below the bound of {:.4g}\n", run.seed, run.law->name,
                        run.cost, run.bound);
  return text;
}

std::string to_json(const Sweep& sweep) {
  Json laws = Json::array();
  for (std::size_t law = 0; law < sweep.laws.size(); ++law) {
    Json scores = Json::object();
    for (std::size_t score = 0; score < kScores.size(); ++score) {
      const SweepCell& cell = sweep.cells[law][score];
      scores[std::string(kScores[score].name)] = {
          {"mean", cell.mean},   {"median", cell.median},         {"p90", cell.p90},
          {"worst", cell.worst}, {"worst_seed", cell.worst_seed}, {"first_is_better", cell.wins},
          {"equal", cell.ties},  {"first_is_worse", cell.losses}};
    }
    laws.push_back({{"law", sweep.laws[law]->name}, {"scores", std::move(scores)}});
  }
  const Json json = {{"first_seed", sweep.options.first_seed},
                     {"seeds", sweep.options.seeds},
                     {"cost_bound",
                      {{"mean", mean(sweep.bounds)},
                       {"median", percentile(sweep.bounds, 0.5)},
                       {"worst", percentile(sweep.bounds, 1)},
                       {"runs_below", below_bound(sweep).size()}}},
                     {"laws", std::move(laws)}};
  return json.dump(2) + "\n";
}

std::string to_csv(const Sweep& sweep) {
  std::string text = "seed,law";
  for (const ScoreInfo& score : kScores) text += fmt::format(",{}", score.name);
  text += ",cost_bound\n";
  for (std::size_t seed = 0; seed < sweep.scores.size(); ++seed) {
    for (std::size_t law = 0; law < sweep.laws.size(); ++law) {
      text += fmt::format("{},{}", sweep.options.first_seed + seed, sweep.laws[law]->name);
      for (const ScoreInfo& score : kScores) text += fmt::format(",{}", sweep.scores[seed][law].*score.value);
      text += fmt::format(",{}\n", sweep.bounds[seed]);
    }
  }
  return text;
}

}  // namespace balloon::policy::sim
