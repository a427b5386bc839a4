// SPDX-License-Identifier: Apache-2.0
// How long one decision takes, by the number of guests, with the complexity fitted. To hold: 40 us for 50
// guests and 8 ms for 10,000. And how long it would take to explain it all, which is done only for who asks.
#include <benchmark/benchmark.h>

#include "policy/explain.h"
#include "tests/unit/policy/fake_host.h"

namespace balloon::policy {
namespace {

enum class Load : std::uint8_t {
  idle,    ///< everybody's need fits
  tight,   ///< it does not: shares by weight
  groups,  ///< nor here, and guests are in groups of ten
};

FakeHost make(Load load, std::uint64_t guests) {
  FakeHost host(guests * kGiB);
  const std::uint64_t used = load == Load::idle ? 100 : 900;
  for (std::uint64_t i = 0; i < guests; ++i) {
    FakeGuest& guest = host.add(2 * kGiB, (used + i % 17 * 100) * kMiB,
                                {256 * kMiB, 2 * kGiB, static_cast<std::uint32_t>(100 + i % 5)});
    if (load == Load::groups) guest.seen.limits.group = fmt::format("group{:05}", i / 10);
  }
  if (load == Load::groups) {
    for (std::uint64_t g = 0; g <= guests / 10; ++g)
      host.groups.push_back({fmt::format("group{:05}", g), Bytes{0}, 64 * kGiB, 100});
  }
  return host;
}

void decide(benchmark::State& state, Load load) {
  FakeHost host = make(load, static_cast<std::uint64_t>(state.range(0)));
  Engine engine({});
  for (int i = 0; i < 30; ++i) host.step(engine);
  Snapshot snapshot = host.snapshot();
  for (auto _ : state) {
    snapshot.now += std::chrono::seconds(1);
    for (GuestSnapshot& guest : snapshot.guests) guest.stats->sampled_at = snapshot.now;
    Plan plan = engine.decide(snapshot);
    benchmark::DoNotOptimize(admit(plan, snapshot.guests));
  }
  state.SetComplexityN(state.range(0));
}
BENCHMARK_CAPTURE(decide, idle, Load::idle)
    ->Arg(6)
    ->Arg(50)
    ->Arg(1000)
    ->Arg(10000)
    ->Complexity(benchmark::oNLogN);
BENCHMARK_CAPTURE(decide, tight, Load::tight)
    ->Arg(6)
    ->Arg(50)
    ->Arg(1000)
    ->Arg(10000)
    ->Complexity(benchmark::oNLogN);
BENCHMARK_CAPTURE(decide, groups, Load::groups)
    ->Arg(50)
    ->Arg(1000)
    ->Arg(10000)
    ->Complexity(benchmark::oNLogN);

void explain_all(benchmark::State& state) {
  FakeHost host = make(Load::tight, static_cast<std::uint64_t>(state.range(0)));
  Engine engine({});
  Plan plan;
  for (int i = 0; i < 30; ++i) plan = host.step(engine);
  const Snapshot seen = host.snapshot();
  for (auto _ : state) {
    for (std::size_t i = 0; i < plan.guests.size(); ++i)
      benchmark::DoNotOptimize(
          explain(plan.guests[i], seen.guests[i].limits, seen.guests[i].actual, plan.budget));
  }
}
BENCHMARK(explain_all)->Arg(50)->Arg(1000);

}  // namespace
}  // namespace balloon::policy
