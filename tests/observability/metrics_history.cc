// SPDX-License-Identifier: Apache-2.0
// Prints what balloond exports while it runs a simulated host: the page of each scrape, as Prometheus would
// have got it, after a line "# scrape SECONDS", or "# scrape SECONDS failed".
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <map>

#include "base/command_line.h"
#include "base/log.h"
#include "policy/sim/scenario_file.h"
#include "tests/observability/simulated_daemon.h"

namespace balloon::test {
namespace {

constexpr auto kProgram = "metrics_history";

struct Arguments {
  std::string scenario;
  std::string trouble;
  std::string guest;
  int every = 15;
  int at = 300;
  std::int64_t start = 0;
  std::uint64_t seed = 1;
};

/// What goes wrong, by name, and makes the daemon answer no more (gone) or write no journal.
struct Case {
  Trouble trouble{};
  bool gone = false;
  bool journal_works = true;
};

std::map<std::string, Case> cases(const std::string& guest) {
  std::map<std::string, Case> all;
  all["none"] = {};
  all["late"].trouble.lateness = std::chrono::milliseconds(120);
  all["stands-still"].trouble.stands_still = true;
  all["reload-refused"].trouble.reload_refused = true;
  all["reservations-unwritable"].trouble.reservations_unwritable = true;
  all["paused"].trouble.control_paused = true;
  all["ksm-costs"].trouble.ksm_profit = -(64LL << 20);
  all["contested"].trouble.moved_by_another = guest;
  all["pinned"].trouble.pinned = guest;
  all["reserved"].trouble.reserved = "to-come";
  all["gone"].gone = true;
  all["journal-unwritable"].journal_works = false;
  return all;
}

int run(const Arguments& arguments) {
  const auto scenario = policy::sim::load_scenario(arguments.scenario);
  if (!scenario) {
    fmt::print(stderr, "{}: {}\n", kProgram, scenario.error().message);
    return 1;
  }
  const auto known = cases(arguments.guest);
  const auto chosen = known.find(arguments.trouble);
  if (chosen == known.end()) {
    fmt::print(stderr, "{}: no trouble is called '{}'\n", kProgram, arguments.trouble);
    return 2;
  }
  SimulatedDaemon daemon(*scenario, arguments.seed, daemon::WallTime(std::chrono::seconds(arguments.start)),
                         chosen->second.journal_works);
  bool struck = false;
  for (std::int64_t second = 1; !daemon.done(); ++second) {
    daemon.run_a_second();
    if (!struck && second >= arguments.at) {
      daemon.strike(chosen->second.trouble);
      struck = true;
    }
    if (second % arguments.every != 0) continue;
    if (struck && chosen->second.gone) {
      fmt::print("# scrape {} failed\n", arguments.start + second);
    } else {
      fmt::print("# scrape {}\n{}", arguments.start + second, daemon.page());
    }
  }
  return 0;
}

int main_program(int argc, char** argv) {
  CLI::App app("Prints what balloond exports while it runs a simulated host.", kProgram);
  Arguments arguments;
  app.add_option("SCENARIO", arguments.scenario, "of the simulated host (docs/simulator.md)")->required();
  app.add_option("--trouble", arguments.trouble, "what goes wrong around the daemon")->default_val("none");
  app.add_option("--guest", arguments.guest, "whom it concerns");
  app.add_option("--at", arguments.at, "second from which on it goes wrong")->capture_default_str();
  app.add_option("--every", arguments.every, "seconds between scrapes")->capture_default_str();
  app.add_option("--start", arguments.start, "time of the first second, since the epoch")
      ->capture_default_str();
  app.add_option("--seed", arguments.seed, "of all that is random")->capture_default_str();
  if (const auto stop = command_line::parse(app, argc, argv)) return command_line::say(*stop, kProgram);
  // What the daemon would log is not what this is for.
  if (const auto started = log::start(kProgram, "error"); !started) return 1;
  return run(arguments);
}

}  // namespace
}  // namespace balloon::test

int main(int argc, char** argv) {
  return balloon::command_line::finish(balloon::test::main_program(argc, argv), balloon::test::kProgram);
}
