// SPDX-License-Identifier: Apache-2.0
#include "policy/sim/sensitivity.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <numeric>

namespace balloon::policy::sim {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::array kFactors = {0.5, 2.0};
/// Laws whose costs differ by less than this have no order.
constexpr double kTiePart = 0.01;

Time scaled(Time time, double factor) {
  return Time(static_cast<std::int64_t>(static_cast<double>(time.count()) * factor));
}

template <double GuestEffects::* kField>
void scale_effect(Scenario& scenario, double factor) {
  for (GuestSpec& guest : scenario.guests) guest.effects.*kField *= factor;
}

/// What is a part of something stays one.
template <double GuestEffects::* kField>
void scale_part(Scenario& scenario, double factor) {
  for (GuestSpec& guest : scenario.guests)
    guest.effects.*kField = std::min(1.0, guest.effects.*kField * factor);
}

void scale_reread(Scenario& scenario, double factor) {
  for (GuestSpec& guest : scenario.guests) guest.effects.reread = scaled(guest.effects.reread, factor);
}

template <double SwapDevice::*... kFields>
void scale_swap(Scenario& scenario, double factor) {
  ((scenario.host.swap.*kFields *= factor), ...);
  for (GuestSpec& guest : scenario.guests) ((guest.swap.*kFields *= factor), ...);
}

void scale_swap_latency(Scenario& scenario, double factor) {
  scenario.host.swap.latency = scaled(scenario.host.swap.latency, factor);
  for (GuestSpec& guest : scenario.guests) guest.swap.latency = scaled(guest.swap.latency, factor);
}

void scale_disk(Scenario& scenario, double factor) {
  scenario.speeds.file_read /= factor;  // of guests whose disk has no bandwidth of its own
  for (GuestSpec& guest : scenario.guests) {
    guest.disk.bandwidth /= factor;
    guest.disk.latency = scaled(guest.disk.latency, factor);
  }
}

void scale_swapped_memory(Scenario& scenario, double factor) {
  constexpr double kMost = 0.9;  // what takes all that it frees is no swap
  const auto scale = [&](double& ratio) { ratio = std::min(kMost, ratio * factor); };
  scale(scenario.host.swap.memory_ratio);
  for (GuestSpec& guest : scenario.guests) scale(guest.swap.memory_ratio);
}

constexpr std::array kConstants = {
    PlantConstant{"mapped part of hot files", scale_part<&GuestEffects::mapped>},
    PlantConstant{"time until cold files are read again", scale_reread},
    PlantConstant{"noise at rest", scale_effect<&GuestEffects::noise_rest>},
    PlantConstant{"noise under load", scale_effect<&GuestEffects::noise_load>},
    PlantConstant{"wrong evictions", scale_part<&GuestEffects::lru_error>},
    PlantConstant{"huge pages split", scale_part<&GuestEffects::split>},
    PlantConstant{"cost of small pages", scale_part<&GuestEffects::split_cost>},
    PlantConstant{"swap latency", scale_swap_latency},
    PlantConstant{"swap bandwidth", scale_swap<&SwapDevice::bandwidth>},
    PlantConstant{"swap requests a second", scale_swap<&SwapDevice::requests>},
    PlantConstant{"cost of a swap write", scale_swap<&SwapDevice::write_factor>},
    PlantConstant{"zram's memory", scale_swapped_memory},
    PlantConstant{"zram's CPU", scale_swap<&SwapDevice::cpu_in, &SwapDevice::cpu_out>},
    PlantConstant{"slowness of guests' disks", scale_disk},
};

std::vector<std::size_t> rank(const std::vector<double>& cost) {
  std::vector<std::size_t> laws(cost.size());
  std::iota(laws.begin(), laws.end(), std::size_t{0});
  std::ranges::stable_sort(laws, {}, [&](std::size_t law) { return cost[law]; });
  return laws;
}

/// Pairs of laws in another order than in `base`, both times by more than a tie.
std::vector<std::string> changes(const SensitivityRow& base, const SensitivityRow& row,
                                 const std::vector<const Contender*>& laws) {
  std::vector<std::string> found;
  const auto before = [](const std::vector<double>& cost, std::size_t a, std::size_t b) {
    return cost[a] < cost[b] * (1 - kTiePart);
  };
  for (std::size_t a = 0; a < laws.size(); ++a) {
    for (std::size_t b = 0; b < laws.size(); ++b) {
      if (before(base.cost, b, a) && before(row.cost, a, b))
        found.push_back(fmt::format("{} before {}", laws[a]->name, laws[b]->name));
    }
  }
  return found;
}

}  // namespace

std::span<const PlantConstant> plant_constants() { return kConstants; }

Sensitivity sensitivity(const std::vector<const Contender*>& laws, const SweepOptions& options,
                        const OnProgress& on_progress) {
  Sensitivity result{options, laws, {}};
  result.rows.push_back({});
  for (const PlantConstant& constant : kConstants) {
    for (const double factor : kFactors)
      result.rows.push_back({std::string(constant.name), factor, {}, {}, {}});
  }
  const std::size_t all = result.rows.size() * options.seeds * laws.size();
  std::size_t before = 0;
  for (std::size_t i = 0; i < result.rows.size(); ++i) {
    SensitivityRow& row = result.rows[i];
    SweepOptions changed = options;
    if (i > 0) {
      changed.change = [scale = kConstants[(i - 1) / kFactors.size()].scale,
                        factor = row.factor](Scenario& scenario) { scale(scenario, factor); };
    }
    const Sweep swept = sweep(laws, changed, [&](std::size_t done, std::size_t) {
      if (on_progress) on_progress(before + done, all);
    });
    before += options.seeds * laws.size();
    row.cost.assign(laws.size(), 0);
    for (const std::vector<Scores>& scores : swept.scores) {
      for (std::size_t law = 0; law < laws.size(); ++law)
        row.cost[law] += scores[law].cost / static_cast<double>(options.seeds);
    }
    row.ranking = rank(row.cost);
    row.changed = changes(result.rows.front(), row, laws);
  }
  return result;
}

std::string to_table(const Sensitivity& sensitivity) {
  std::string text =
      fmt::format("mean cost of {} random scenarios, seeds {} to {}, with one constant changed\n{:40}",
                  sensitivity.options.seeds, sensitivity.options.first_seed,
                  sensitivity.options.first_seed + sensitivity.options.seeds - 1, "");
  for (const Contender* law : sensitivity.laws) text += fmt::format("  {:>12}", law->name);
  text += "  other order\n";
  for (const SensitivityRow& row : sensitivity.rows) {
    text += row.constant.empty() ? fmt::format("{:40}", "as they are")
                                 : fmt::format("{:35} x{:<4}", row.constant, row.factor);
    for (const double cost : row.cost) text += fmt::format("  {:12.5g}", cost);
    text +=
        fmt::format("  {}\n", row.changed.empty() ? "-" : fmt::format("{}", fmt::join(row.changed, ", ")));
  }
  return text;
}

std::string to_json(const Sensitivity& sensitivity) {
  Json rows = Json::array();
  for (const SensitivityRow& row : sensitivity.rows) {
    Json costs = Json::object();
    for (std::size_t law = 0; law < row.cost.size(); ++law)
      costs[sensitivity.laws[law]->name] = row.cost[law];
    rows.push_back(
        {{"constant", row.constant}, {"factor", row.factor}, {"cost", costs}, {"changed", row.changed}});
  }
  return Json{{"first_seed", sensitivity.options.first_seed},
              {"seeds", sensitivity.options.seeds},
              {"rows", rows}}
             .dump(2) +
         "\n";
}

}  // namespace balloon::policy::sim
