// How long one decision takes, by the number of guests.
#include <benchmark/benchmark.h>

#include "tests/unit/policy/fake_host.h"

namespace balloon::policy {
namespace {

void decide(benchmark::State& state) {
  const auto count = static_cast<Bytes>(state.range(0));
  FakeHost host(count * kGiB);
  for (Bytes i = 0; i < count; ++i)
    host.add(2 * kGiB, (100 + i % 17 * 100) * kMiB, {256 * kMiB, 2 * kGiB, 100});
  Engine engine({});
  Snapshot snapshot = host.snapshot();
  for (auto _ : state) {
    snapshot.now += std::chrono::seconds(1);
    for (GuestSnapshot& guest : snapshot.guests) guest.stats->sampled_at = snapshot.now;
    Plan plan = engine.decide(snapshot);
    benchmark::DoNotOptimize(admit(plan, snapshot.guests));
  }
  state.SetComplexityN(state.range(0));
}
BENCHMARK(decide)->Arg(6)->Arg(50)->Arg(1000)->Arg(10000)->Complexity(benchmark::oNLogN);

}  // namespace
}  // namespace balloon::policy
