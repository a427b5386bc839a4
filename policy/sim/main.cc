// balloon-sim: control laws against simulated hosts and guests.
#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "policy/sim/runner.h"
#include "policy/sim/scenario_file.h"

namespace balloon::policy::sim {
namespace {

int run_all(const std::vector<std::string>& files, const std::string& law, std::uint64_t seed) {
  const Contender* contender = find_contender(law);
  if (!contender) {
    fmt::print(stderr, "balloon-sim: no law is called '{}'; see balloon-sim list\n", law);
    return 2;
  }
  for (const std::string& file : files) {
    const auto scenario = load_scenario(file);
    if (!scenario) {
      fmt::print(stderr, "{}\n", scenario.error().message);
      return 1;
    }
    const RunResult result = run(*scenario, *contender, {seed, 0});
    fmt::print("{} under {}\n", scenario->name, contender->name);
    for (const ScoreInfo& score : kScores)
      fmt::print("  {:18} {:12.3f} {}\n", score.name, result.scores.*score.value, score.unit);
    fmt::print("  {:18} {:12.3f} µs\n", "decision", result.decide_us);
  }
  return 0;
}

}  // namespace
}  // namespace balloon::policy::sim

int main(int argc, char** argv) {
  CLI::App app("Control laws against simulated hosts and guests.");
  std::vector<std::string> files;
  std::string law = "balloond";
  std::uint64_t seed = 1;
  app.require_subcommand(1);
  CLI::App* run = app.add_subcommand("run", "runs scenarios under one law and prints its scores");
  run->add_option("SCENARIO", files, "scenario files")->required();
  run->add_option("--law", law, "which law decides");
  run->add_option("--seed", seed, "of all random numbers");
  CLI11_PARSE(app, argc, argv);
  return balloon::policy::sim::run_all(files, law, seed);
}
