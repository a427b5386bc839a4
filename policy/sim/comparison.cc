// SPDX-License-Identifier: Apache-2.0
#include "policy/sim/comparison.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "policy/sim/bound.h"

namespace balloon::policy::sim {
namespace {

using Json = nlohmann::ordered_json;

/// A cell: three significant digits or so, whole numbers as they are.
std::string cell(double value) {
  if (std::isnan(value)) return "-";
  if (value == 0) return "0";
  if (value == std::round(value) && std::abs(value) < 1e7) return fmt::format("{:.0f}", value);
  if (std::abs(value) >= 1e7) return fmt::format("{:.2e}", value);
  if (std::abs(value) >= 100) return fmt::format("{:.0f}", value);
  if (std::abs(value) >= 10) return fmt::format("{:.1f}", value);
  if (std::abs(value) >= 0.01) return fmt::format("{:.3f}", value);
  return fmt::format("{:.1e}", value);
}

struct Row {
  std::string name;
  std::string unit;
  std::vector<double> values;  // by law
  Better better = Better::lower;
};

std::vector<Row> rows_of(const Comparison& comparison, const CompareOptions& options) {
  std::vector<Row> rows;
  const auto add = [&](std::string name, std::string unit, Better better, auto value) {
    Row row{std::move(name), std::move(unit), {}, better};
    for (const RunResult& result : comparison.results) row.values.push_back(value(result));
    rows.push_back(std::move(row));
  };
  for (const ScoreInfo& score : kScores) {
    add(std::string(score.name), std::string(score.unit), score.better,
        [&](const RunResult& result) { return result.scores.*score.value; });
    if (score.value == &Scores::deficit) {
      add("  of static's", "", Better::lower,
          [&](const RunResult& result) { return part_of_static(comparison, result); });
      add("  above foresight", "GiB·s", Better::lower, [&](const RunResult& result) {
        return result.scores.deficit - comparison.foresight.scores.deficit;
      });
    }
    if (score.value == &Scores::cost) {
      add("  above bound", "s", Better::lower,
          [&](const RunResult& result) { return result.scores.cost - comparison.bound; });
      add("  above foresight", "s", Better::lower,
          [&](const RunResult& result) { return result.scores.cost - comparison.foresight.scores.cost; });
    }
  }
  if (options.timing)
    add("decision", "µs", Better::lower, [](const RunResult& result) { return result.decide_us; });
  return rows;
}

/// Display width of UTF-8 text whose characters are all one column wide.
std::size_t columns(const std::string& text) {
  return static_cast<std::size_t>(
      std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

std::string padded(const std::string& text, std::size_t width) {
  return text + std::string(width - std::min(width, columns(text)), ' ');
}

}  // namespace

double part_of_static(const Comparison& comparison, const RunResult& result) {
  const double fixed = comparison.fixed.scores.deficit;
  if (fixed > 0) return result.scores.deficit / fixed;
  return result.scores.deficit > 0 ? std::numeric_limits<double>::quiet_NaN() : 0;
}

std::vector<Comparison> compare(const std::vector<Scenario>& scenarios,
                                const std::vector<const Contender*>& laws, const CompareOptions& options,
                                const OnProgress& on_progress) {
  std::vector<const Contender*> all = laws;
  const auto place = [&](const char* name) {
    const Contender* contender = find_contender(name);
    const auto found = std::ranges::find(all, contender);
    if (found == all.end()) all.push_back(contender);
    return static_cast<std::size_t>(std::ranges::find(all, contender) - all.begin());
  };
  const std::size_t fixed = place("static");
  const std::size_t foresight = place("foresight-2s");
  std::vector<Job> jobs;
  for (const Scenario& scenario : scenarios) {
    for (const Contender* law : all) jobs.push_back({&scenario, law, {options.seed, options.samples}});
  }
  std::vector<RunResult> results = run_jobs(jobs, on_progress);
  std::vector<Comparison> comparisons;
  for (std::size_t i = 0; i < scenarios.size(); ++i) {
    const auto mine = results.begin() + static_cast<std::ptrdiff_t>(i * all.size());
    Comparison comparison{&scenarios[i],
                          options.seed,
                          laws,
                          {},
                          mine[static_cast<std::ptrdiff_t>(fixed)],
                          mine[static_cast<std::ptrdiff_t>(foresight)],
                          cost_bound(scenarios[i], options.seed)};
    comparison.results.assign(mine, mine + static_cast<std::ptrdiff_t>(laws.size()));
    comparisons.push_back(std::move(comparison));
  }
  return comparisons;
}

std::string to_table(const std::vector<Comparison>& comparisons, const CompareOptions& options) {
  std::string text;
  for (const Comparison& comparison : comparisons) {
    text += fmt::format("{}{}: {}\n", text.empty() ? "" : "\n", comparison.scenario->name,
                        comparison.scenario->summary);
    std::size_t first = 0;
    std::vector<Row> rows = rows_of(comparison, options);
    const bool several = comparison.laws.size() > 1;
    if (several) {  // what is 0 for all says nothing
      std::erase_if(rows, [](const Row& row) {
        return std::ranges::all_of(row.values, [](double value) { return value == 0; });
      });
    }
    for (const Row& row : rows) first = std::max(first, columns(row.name) + columns(row.unit) + 1);
    text += std::string(first, ' ');
    std::vector<std::size_t> widths;
    for (std::size_t law = 0; law < comparison.laws.size(); ++law) {
      std::size_t width = comparison.laws[law]->name.size();
      for (const Row& row : rows) width = std::max(width, cell(row.values[law]).size());
      widths.push_back(width);
      text += fmt::format("  {:>{}}", comparison.laws[law]->name, width);
    }
    text += '\n';
    for (const Row& row : rows) {
      text += padded(row.name + (row.unit.empty() ? "" : " " + row.unit), first);
      for (std::size_t law = 0; law < widths.size(); ++law)
        text += fmt::format("  {:>{}}", cell(row.values[law]), widths[law]);
      text += '\n';
    }
  }
  return text;
}

std::string to_json(const std::vector<Comparison>& comparisons, const CompareOptions& options) {
  Json list = Json::array();
  for (const Comparison& comparison : comparisons) {
    Json laws = Json::array();
    for (std::size_t i = 0; i < comparison.laws.size(); ++i) {
      const RunResult& result = comparison.results[i];
      Json scores = Json::object();
      for (const ScoreInfo& score : kScores) scores[std::string(score.name)] = result.scores.*score.value;
      Json law = {{"law", comparison.laws[i]->name},
                  {"scores", std::move(scores)},
                  {"deficit_of_static", part_of_static(comparison, result)},
                  {"regret",
                   {{"deficit", result.scores.deficit - comparison.foresight.scores.deficit},
                    {"cost", result.scores.cost - comparison.foresight.scores.cost}}}};
      Json guests = Json::array();
      for (std::size_t guest = 0; guest < result.guests.size(); ++guest)
        guests.push_back({{"name", comparison.scenario->guests[guest].name},
                          {"deficit", result.guests[guest].deficit},
                          {"satisfaction", result.guests[guest].satisfaction}});
      law["guests"] = std::move(guests);
      if (options.timing) law["decision_us"] = result.decide_us;
      laws.push_back(std::move(law));
    }
    list.push_back({{"scenario", comparison.scenario->name},
                    {"summary", comparison.scenario->summary},
                    {"seed", comparison.seed},
                    {"cost_bound", comparison.bound},
                    {"laws", std::move(laws)}});
  }
  return list.dump(2) + "\n";
}

std::string to_csv(const std::vector<Comparison>& comparisons, const CompareOptions& options) {
  std::string text = "scenario,seed,law";
  for (const ScoreInfo& score : kScores) text += fmt::format(",{}", score.name);
  text += ",deficit_of_static,regret_deficit,regret_cost,cost_bound";
  text += options.timing ? ",decision_us\n" : "\n";
  for (const Comparison& comparison : comparisons) {
    for (std::size_t i = 0; i < comparison.laws.size(); ++i) {
      const RunResult& result = comparison.results[i];
      text += fmt::format("{},{},{}", comparison.scenario->name, comparison.seed, comparison.laws[i]->name);
      for (const ScoreInfo& score : kScores) text += fmt::format(",{}", result.scores.*score.value);
      const double part = part_of_static(comparison, result);
      text += fmt::format(",{},{},{},{}", std::isnan(part) ? "" : fmt::format("{}", part),
                          result.scores.deficit - comparison.foresight.scores.deficit,
                          result.scores.cost - comparison.foresight.scores.cost, comparison.bound);
      text += options.timing ? fmt::format(",{}\n", result.decide_us) : "\n";
    }
  }
  return text;
}

}  // namespace balloon::policy::sim
