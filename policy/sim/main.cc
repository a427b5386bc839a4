// SPDX-License-Identifier: Apache-2.0
// balloon-sim: control laws against simulated hosts and guests.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "base/command_line.h"
#include "base/standard_output.h"
#include "policy/sim/comparison.h"
#include "policy/sim/recorded.h"
#include "policy/sim/replay_command.h"
#include "policy/sim/scenario_file.h"
#include "policy/sim/sensitivity.h"
#include "policy/sim/sweep.h"

namespace balloon::policy::sim {
namespace {

constexpr auto kProgram = "balloon-sim";

constexpr int kOk = 0;
constexpr int kFailure = 1;
constexpr int kUsage = 2;
constexpr int kBelowBound = 4;

constexpr auto kFooter =
    "Exit codes: 0 ok, 1 a scenario is bad or a file could not be read or written, 2 usage, 3 a replay "
    "has other plans than were recorded, 4 a law had less cost than any can have.\n"
    "The same scenario, law and seed give the same figures, byte for byte (but for --timing).\n"
    "Examples:\n"
    "  balloon-sim run tests/scenarios/sim/s02-single-step.yaml\n"
    "  balloon-sim compare tests/scenarios/sim/*.yaml --laws balloond,qmemman,foresight-2s --plot out.html\n"
    "  balloon-sim sweep --seeds 1000 -o json\n"
    "  balloon-sim replay /var/lib/balloond/journal --policy policy.yaml";

/// Samples of each series in a report: two a pixel at most.
constexpr std::size_t kPlotSamples = 600;

struct Arguments {
  std::vector<std::string> files;
  std::string law = "balloond";
  std::string laws = "all";
  std::string output = "table";
  std::string plot;
  std::string record;
  std::string swap;
  CompareOptions compare;
  SweepOptions sweep;
  ReplayArguments replay;
};

int complain(const std::string& message, int code) {
  fmt::print(stderr, "balloon-sim: {}\n", message);
  return code;
}

int answer(const std::string& text, int status = kOk) {
  const auto printed = print_output(text);
  return printed ? status : complain(printed.error().message, kFailure);
}

/// "a,b,c", "all", or "all@1s"; ours is put first when it is among them.
Result<std::vector<const Contender*>> choose_laws(const std::string& text) {
  std::vector<const Contender*> laws;
  if (text == "all" || text == "all@1s") {
    for (const Contender& contender : text == "all" ? contenders() : contenders_at_our_timing())
      laws.push_back(&contender);
    return laws;
  }
  for (std::size_t from = 0; from <= text.size();) {
    const std::size_t comma = std::min(text.find(',', from), text.size());
    const std::string name = text.substr(from, comma - from);
    const Contender* contender = find_contender(name);
    if (!contender) return fail(fmt::format("no law is called '{}'; 'balloon-sim list' names them", name));
    if (std::ranges::find(laws, contender) == laws.end()) laws.push_back(contender);
    from = comma + 1;
  }
  std::ranges::stable_partition(laws, [](const Contender* law) { return law == &contenders().front(); });
  return laws;
}

Result<std::vector<Scenario>> load_all(const std::vector<std::string>& files) {
  std::vector<Scenario> scenarios;
  std::string complaints;
  for (const std::string& file : files) {
    auto scenario = load_scenario(file);
    if (scenario) {
      scenarios.push_back(std::move(*scenario));
    } else {
      complaints += (complaints.empty() ? "" : "\n") + scenario.error().message;
    }
  }
  if (!complaints.empty()) return fail(complaints);
  return scenarios;
}

Result<void> write_file(const std::string& path, const std::string& text) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "wbe"), &std::fclose);
  if (!file) return fail_errno("writing " + path, errno);
  if (std::fwrite(text.data(), 1, text.size(), file.get()) != text.size() || std::fflush(file.get()) != 0)
    return fail_errno("writing " + path, errno);
  return {};
}

/// One scenario under one law, written down in a directory.
int run_recorded(const Arguments& arguments) {
  const Contender* law = find_contender(arguments.law);
  if (law == nullptr) return complain(fmt::format("no law is called '{}'", arguments.law), kUsage);
  if (arguments.files.size() != 1) return complain("--record: one scenario at a time", kUsage);
  const auto scenarios = load_all(arguments.files);
  if (!scenarios) return complain(scenarios.error().message, kFailure);
  const auto recorded = RecordedRun::in(arguments.record);
  if (!recorded) return complain(recorded.error().message, kFailure);
  run(scenarios->front(), recorded->of(*law), {.seed = arguments.compare.seed});
  const auto written = recorded->written();
  return written ? kOk : complain(written.error().message, kFailure);
}

int run_comparison(Arguments& arguments) {
  const auto laws = choose_laws(arguments.laws);
  if (!laws) return complain(laws.error().message, kUsage);
  const auto scenarios = load_all(arguments.files);
  if (!scenarios) return complain(scenarios.error().message, kFailure);
  if (!arguments.plot.empty()) arguments.compare.samples = kPlotSamples;
  std::vector<Comparison> comparisons;
  {
    ProgressBar bar;
    comparisons = compare(*scenarios, *laws, arguments.compare,
                          [&](std::size_t done, std::size_t all) { bar.show(done, all); });
  }
  if (!arguments.plot.empty()) {
    const auto written = write_file(arguments.plot, to_html(comparisons));
    if (!written) return complain(written.error().message, kFailure);
  }
  return answer(arguments.output == "json"  ? to_json(comparisons, arguments.compare)
                : arguments.output == "csv" ? to_csv(comparisons, arguments.compare)
                                            : to_table(comparisons, arguments.compare));
}

void choose_swap(Arguments& arguments) {
  const bool plain = arguments.sweep.generator.generator == 1;
  const auto choose = [&](std::string_view name, auto real, auto round) {
    if (arguments.swap == name) arguments.sweep.swap = plain ? round : real;
  };
  choose("nvme", &SwapDevice::nvme, &SwapDevice::plain_nvme);
  choose("hdd", &SwapDevice::hdd, &SwapDevice::plain_hdd);
  choose("zram", &SwapDevice::zram, &SwapDevice::plain_zram);
}

int run_sensitivity(const Arguments& arguments) {
  const auto laws = choose_laws(arguments.laws);
  if (!laws) return complain(laws.error().message, kUsage);
  ProgressBar bar;
  const Sensitivity result =
      sensitivity(*laws, arguments.sweep, [&](std::size_t done, std::size_t all) { bar.show(done, all); });
  return answer(arguments.output == "json" ? to_json(result) : to_table(result));
}

int run_sweep(Arguments& arguments) {
  const auto laws = choose_laws(arguments.laws);
  if (!laws) return complain(laws.error().message, kUsage);
  choose_swap(arguments);
  ProgressBar bar;
  const Sweep result =
      sweep(*laws, arguments.sweep, [&](std::size_t done, std::size_t all) { bar.show(done, all); });
  return answer(arguments.output == "json"  ? to_json(result)
                : arguments.output == "csv" ? to_csv(result)
                                            : to_table(result),
                below_bound(result).empty() ? kOk : kBelowBound);
}

int list() {
  std::string text = "Laws (--law, --laws):\n";
  for (const Contender& contender : contenders())
    text += fmt::format("  {:12} {}\n", contender.name, contender.summary);
  text += "With our timing, each second and sooner when a guest is in need:";
  for (const peers::Law& law : peers::laws_at_our_timing()) text += fmt::format(" {}", law.name);
  const Contender& hindsight = *find_contender("hindsight-1s");
  text += fmt::format("\nOnly when it is named:\n  {:12} {}\n", hindsight.name, hindsight.summary);
  text += "\nScores:\n";
  for (const ScoreInfo& score : kScores) {
    const char* better = score.better == Better::lower    ? "lower is better"
                         : score.better == Better::higher ? "higher is better"
                                                          : "";
    text += fmt::format("  {:16} {}{}{}{}{}\n", score.name, score.unit, score.unit.empty() ? "" : "; ",
                        score.definition, *better ? "; " : "", better);
  }
  return answer(text);
}

void add_output(CLI::App& command, Arguments& arguments) {
  command.add_option("-o,--output", arguments.output, "table, json or csv")
      ->check(CLI::IsMember({"table", "json", "csv"}))
      ->capture_default_str();
}

void add_scenarios(CLI::App& command, Arguments& arguments) {
  command.add_option("SCENARIO", arguments.files, "scenario files (docs/simulator.md says what is in them)")
      ->required();
  command.add_option("--seed", arguments.compare.seed, "of all that is random")->capture_default_str();
  command.add_option("--plot", arguments.plot,
                     "writes a report, a page of its own: memory of guests, demand, events, scores");
  command.add_flag("--timing", arguments.compare.timing, "show how long decisions took, in real time");
  add_output(command, arguments);
}

int main_program(int argc, char** argv) {
  CLI::App app("Runs control laws against simulated hosts and guests, and scores them.", kProgram);
  app.set_version_flag("--version", "balloon-sim " BALLOON_VERSION);
  app.footer(kFooter);
  app.require_subcommand(1);
  Arguments arguments;
  CLI::App* run = app.add_subcommand("run", "scenarios under one law");
  add_scenarios(*run, arguments);
  run->add_option("--law", arguments.law, "which law decides")->capture_default_str();
  run->add_option(
      "--record", arguments.record,
      "a directory: writes what the law saw and said there, as balloond's journal has it, for 'replay'; "
      "no figures");
  CLI::App* compare = app.add_subcommand("compare", "scenarios under several laws, side by side");
  add_scenarios(*compare, arguments);
  compare
      ->add_option("--laws", arguments.laws,
                   "names with commas between them, or all; NAME@1s and all@1s: with our timing")
      ->capture_default_str();
  CLI::App* sweep =
      app.add_subcommand("sweep", "random scenarios under several laws: median, worst, who is better");
  sweep->add_option("--seeds", arguments.sweep.seeds, "how many scenarios")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  sweep->add_option("--first-seed", arguments.sweep.first_seed, "seed of the first")->capture_default_str();
  sweep
      ->add_option("--generator", arguments.sweep.generator.generator,
                   "1: the first version's scenarios, with none of the plant's effects; 2: those of today")
      ->check(CLI::Range(1, 2))
      ->capture_default_str();
  sweep->add_option("--guests", arguments.sweep.generator.guests, "of each scenario; 0: 2 to 40 at random")
      ->check(CLI::Range(0, 10'000))
      ->capture_default_str();
  sweep->add_option("--swap", arguments.swap, "the hosts' swap device: nvme, hdd or zram; else as drawn")
      ->check(CLI::IsMember({"nvme", "hdd", "zram"}));
  sweep
      ->add_option("--overcommit", arguments.sweep.generator.overcommit,
                   "guests' memory over the host's; 0: 1.1 to 3.0 at random")
      ->check(CLI::Range(0.0, 10.0))
      ->capture_default_str();
  sweep
      ->add_option("--laws", arguments.laws,
                   "names with commas between them, or all; NAME@1s and all@1s: with our timing")
      ->capture_default_str();
  add_output(*sweep, arguments);
  CLI::App* constants = app.add_subcommand(
      "sensitivity",
      "random scenarios with each constant of the plant at half and at double: who changes places");
  constants->add_option("--seeds", arguments.sweep.seeds, "how many scenarios")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  constants->add_option("--first-seed", arguments.sweep.first_seed, "seed of the first")
      ->capture_default_str();
  constants->add_option("--laws", arguments.laws, "names with commas between them, or all")
      ->capture_default_str();
  constants->add_option("-o,--output", arguments.output, "table or json")
      ->check(CLI::IsMember({"table", "json"}))
      ->capture_default_str();
  CLI::App* replay = app.add_subcommand(
      "replay", "balloond's recordings: are the plans the same; what would another policy have done");
  replay->add_option("RECORDING", arguments.replay.path, "a file of balloond's journal, or the directory")
      ->required();
  replay->add_option("--policy", arguments.replay.policy, "policy file that decides instead");
  replay->add_option("--law", arguments.replay.law, "control law that decides instead");
  replay->add_option("--guest", arguments.replay.guest, "only this guest counts");
  add_output(*replay, arguments);
  CLI::App* listing = app.add_subcommand("list", "the laws, and the scores with their definitions");
  if (const auto stop = command_line::parse(app, argc, argv)) return command_line::say(*stop, kProgram);
  if (listing->parsed()) return list();
  if (replay->parsed()) {
    arguments.replay.output = arguments.output;
    return run_replay(arguments.replay, "balloon-sim");
  }
  if (sweep->parsed()) return run_sweep(arguments);
  if (constants->parsed()) return run_sensitivity(arguments);
  if (run->parsed()) arguments.laws = arguments.law;
  if (run->parsed() && !arguments.record.empty()) return run_recorded(arguments);
  return run_comparison(arguments);
}

}  // namespace
}  // namespace balloon::policy::sim

int main(int argc, char** argv) {
  return balloon::command_line::finish(balloon::policy::sim::main_program(argc, argv),
                                       balloon::policy::sim::kProgram);
}
