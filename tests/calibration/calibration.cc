// SPDX-License-Identifier: Apache-2.0
#include "tests/calibration/calibration.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/bytes.h"

namespace balloon::policy::sim {
namespace {

/// The simulator's samples.
constexpr double kSampleSeconds = 1;
/// A load counts as there when no more than this part of it is missing, as for the score t95.
constexpr double kSatisfied = 0.05;
/// What counts as the end of the run.
constexpr double kLastSeconds = 60;
constexpr double kMiBPerGiB = 1024;

struct Prediction {
  Series series;
  std::vector<std::vector<double>> size;  ///< by guest, at the run's rows
};

std::size_t sample_at(const Series& series, double seconds) {
  const auto found = std::ranges::lower_bound(series.time, seconds);
  const auto last = static_cast<std::ptrdiff_t>(series.time.size()) - 1;
  return static_cast<std::size_t>(std::min(found - series.time.begin(), last));
}

Prediction predict(const Scenario& scenario, const Contender& contender, const RecordedRun& run) {
  RunOptions options;
  options.samples =
      static_cast<std::size_t>(std::chrono::duration<double>(scenario.duration).count() / kSampleSeconds);
  Prediction prediction{sim::run(scenario, contender, options).series, {}};
  for (const std::vector<float>& size : prediction.series.size) {
    std::vector<double>& rows = prediction.size.emplace_back();
    for (const double at : run.time) rows.push_back(size[sample_at(prediction.series, at)]);
  }
  return prediction;
}

/// Mean absolute difference of all guests' sizes while `wanted` holds of the time.
template <typename Wanted>
double size_error(const RecordedRun& run, const Prediction& prediction, double boot_memory, Wanted wanted) {
  double sum = 0;
  double count = 0;
  for (std::size_t guest = 0; guest < run.size.size(); ++guest) {
    for (std::size_t row = 0; row < run.time.size(); ++row) {
      if (!wanted(run.time[row])) continue;
      sum += std::abs(prediction.size[guest][row] - run.size[guest][row]);
      count += 1;
    }
  }
  return count > 0 ? sum / count / boot_memory : 0;
}

double moved(const RecordedRun& run, const std::vector<std::vector<double>>& sizes, const RunPhase& phase) {
  double sum = 0;
  for (const std::vector<double>& size : sizes) {
    for (std::size_t row = 1; row < run.time.size(); ++row) {
      if (run.time[row] >= phase.from && run.time[row] <= phase.to)
        sum += std::abs(size[row] - size[row - 1]);
    }
  }
  return sum / kMiBPerGiB;
}

/// When the guest's demand rises in the phase, the seconds from the phase's begin until it has it all;
/// nothing when it does not rise, negative when it never has it.
std::optional<double> satisfaction(const Series& series, std::size_t guest, const RunPhase& phase) {
  const std::vector<float>& demand = series.demand[guest];
  const std::size_t begin = sample_at(series, phase.from);
  const std::size_t end = sample_at(series, phase.to);
  const std::size_t most = static_cast<std::size_t>(
      std::ranges::max_element(demand.begin() + static_cast<std::ptrdiff_t>(begin),
                               demand.begin() + static_cast<std::ptrdiff_t>(end) + 1) -
      demand.begin());
  constexpr float kRise = 256;
  if (demand[most] < demand[begin] + kRise) return std::nullopt;
  for (std::size_t at = most; at <= end; ++at) {
    if (series.missing[guest][at] <= demand[at] * kSatisfied) return series.time[at] - phase.from;
  }
  return -1;
}

PhaseErrors compare_phase(const RecordedRun& run, const Prediction& prediction, double boot_memory,
                          const RunPhase& phase) {
  PhaseErrors errors;
  errors.name = phase.name;
  errors.size =
      size_error(run, prediction, boot_memory, [&](double at) { return at >= phase.from && at <= phase.to; });
  errors.recorded_moved = moved(run, run.size, phase);
  errors.simulated_moved = moved(run, prediction.size, phase);
  errors.recorded_satisfied = phase.satisfied;
  errors.recorded_p50 = phase.p50_seconds;
  errors.recorded_max = phase.max_seconds;
  std::vector<double> times;
  for (std::size_t guest = 0; guest < run.guests.size(); ++guest) {
    const std::optional<double> took = satisfaction(prediction.series, guest, phase);
    if (took && *took >= 0) times.push_back(*took);
  }
  std::ranges::sort(times);
  errors.simulated_satisfied = static_cast<int>(times.size());
  if (!times.empty()) {
    errors.simulated_p50 = times[times.size() / 2];
    errors.simulated_max = times.back();
  }
  return errors;
}

double mean_of_the_end(const std::vector<double>& time, const std::vector<double>& size) {
  double sum = 0;
  double count = 0;
  for (std::size_t row = 0; row < time.size(); ++row) {
    if (time[row] < time.back() - kLastSeconds) continue;
    sum += size[row];
    count += 1;
  }
  return sum / count;
}

class Playback : public Controller {
 public:
  explicit Playback(RecordedRun run) : run_(std::move(run)) {}

  Plan decide(const Snapshot& snapshot) override {
    const double now = std::chrono::duration<double>(snapshot.now).count();
    const auto next = std::ranges::upper_bound(run_.time, now);
    const auto row = static_cast<std::size_t>(std::max<std::ptrdiff_t>(0, next - run_.time.begin() - 1));
    Plan plan;
    for (std::size_t i = 0; i < snapshot.guests.size(); ++i) {
      GuestPlan guest;
      guest.name = snapshot.guests[i].name;
      guest.target = static_cast<std::uint64_t>(run_.target[i][row]) * kMiB;
      plan.guests.push_back(std::move(guest));
    }
    return plan;
  }

 private:
  RecordedRun run_;
};

RecordedRun read_run(const nlohmann::json& document) {
  RecordedRun run;
  run.guests = document.at("guests").get<std::vector<std::string>>();
  const auto number = [](const nlohmann::json& value) { return value.is_null() ? 0.0 : value.get<double>(); };
  for (const auto& phase : document.at("phases")) {
    run.phases.push_back({phase.at("name").get<std::string>(), phase.at("from").get<double>(),
                          phase.at("to").get<double>(), phase.at("loads").get<int>(),
                          phase.at("satisfied").get<int>(), number(phase.at("p50_seconds")),
                          number(phase.at("max_seconds"))});
  }
  const auto columns = document.at("columns").get<std::vector<std::string>>();
  const auto column = [&](const std::string& name) {
    return static_cast<std::size_t>(std::ranges::find(columns, name) - columns.begin());
  };
  run.size.resize(run.guests.size());
  run.target.resize(run.guests.size());
  for (const auto& row : document.at("rows")) {
    run.time.push_back(row.at(column("seconds")).get<double>());
    for (std::size_t i = 0; i < run.guests.size(); ++i) {
      run.size[i].push_back(row.at(column(run.guests[i] + ".size")).get<double>());
      run.target[i].push_back(row.at(column(run.guests[i] + ".target")).get<double>());
    }
  }
  return run;
}

}  // namespace

Result<RecordedRun> load_run(const std::string& path) {
  std::ifstream file(path);
  if (!file) return fail(path + ": cannot be read");
  try {
    RecordedRun run = read_run(nlohmann::json::parse(file));
    if (run.time.empty() || run.guests.empty()) return fail(path + ": has no rows");
    return run;
  } catch (const nlohmann::json::exception& error) {
    return fail(path + ": " + error.what());
  }
}

Contender recorded_targets(const RecordedRun& run) {
  return {"recorded",
          "the targets of the recorded run",
          std::chrono::seconds(1),
          nullptr,
          nullptr,
          [run](const Scenario&, std::uint64_t) { return std::make_unique<Playback>(run); },
          {}};
}

Result<Errors> compare(const Scenario& scenario, const Contender& contender, const RecordedRun& run) {
  if (scenario.guests.size() != run.guests.size())
    return fail(
        fmt::format("the scenario has {} guests, the run {}", scenario.guests.size(), run.guests.size()));
  const double boot_memory = static_cast<double>(scenario.guests.front().memory) / kMiBd;
  const Prediction prediction = predict(scenario, contender, run);
  Errors errors;
  errors.size = size_error(run, prediction, boot_memory, [](double) { return true; });
  for (const RunPhase& phase : run.phases)
    errors.phases.push_back(compare_phase(run, prediction, boot_memory, phase));
  for (std::size_t guest = 0; guest < run.guests.size(); ++guest) {
    errors.last_size.push_back(mean_of_the_end(run.time, prediction.size[guest]) /
                               mean_of_the_end(run.time, run.size[guest]));
  }
  return errors;
}

std::string describe(const Errors& errors, const RecordedRun& run) {
  std::string text = fmt::format("{:<9} {:>6} {:>15} {:>13} {:>15} {:>15}\n", "phase", "size", "moved GiB",
                                 "satisfied", "p50 s", "max s");
  for (const PhaseErrors& phase : errors.phases) {
    text += fmt::format(
        "{:<9} {:>5.1f}% {:>6.2f} -> {:<5.2f} {:>5} -> {:<4} {:>6.1f} -> {:<5.1f} {:>6.1f} -> {:<5.1f}\n",
        phase.name, 100 * phase.size, phase.recorded_moved, phase.simulated_moved, phase.recorded_satisfied,
        phase.simulated_satisfied, phase.recorded_p50, phase.simulated_p50, phase.recorded_max,
        phase.simulated_max);
  }
  text += fmt::format("the run   {:>5.1f}%; sizes at its end, simulated over recorded:", 100 * errors.size);
  for (std::size_t i = 0; i < run.guests.size(); ++i)
    text += fmt::format(" {} {:.2f}", run.guests[i], errors.last_size[i]);
  return text + "\n";
}

}  // namespace balloon::policy::sim
