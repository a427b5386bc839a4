// SPDX-License-Identifier: Apache-2.0
// How fast the simulator is: a day with 50 guests, one decision a second, must take 10 s at most.
#include <benchmark/benchmark.h>

#include "policy/sim/generator.h"
#include "policy/sim/runner.h"

namespace balloon::policy::sim {
namespace {

/// A scenario without anything that would make it easier or harder than a usual host.
Scenario usual(std::uint32_t guests, Time duration) {
  return generate(1, {.guests = guests, .overcommit = 1.5, .duration = duration});
}

/// Simulated seconds a second of real time, for one law and number of guests.
void simulate(benchmark::State& state, const char* law) {
  const Scenario scenario = usual(static_cast<std::uint32_t>(state.range(0)), std::chrono::minutes(30));
  for (auto _ : state) benchmark::DoNotOptimize(run(scenario, *find_contender(law), {}));
  state.counters["simulated_s/s"] =
      benchmark::Counter(std::chrono::duration<double>(scenario.duration).count(),
                         benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK_CAPTURE(simulate, plant_alone, "none")->Arg(6)->Arg(50)->Arg(200)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(simulate, balloond, "balloond")->Arg(6)->Arg(50)->Arg(200)->Unit(benchmark::kMillisecond);

void day_with_50_guests(benchmark::State& state) {
  const Scenario scenario = usual(50, std::chrono::hours(24));
  for (auto _ : state) benchmark::DoNotOptimize(run(scenario, *find_contender("balloond"), {}));
}
BENCHMARK(day_with_50_guests)->Unit(benchmark::kSecond)->Iterations(1);

}  // namespace
}  // namespace balloon::policy::sim
