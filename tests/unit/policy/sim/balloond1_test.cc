// As long as balloond's law is what balloond-1 keeps, both say the same. This file goes when the law changes.
#include <gtest/gtest.h>

#include <filesystem>

#include "policy/executor.h"
#include "policy/peers/balloond1/law.h"
#include "policy/peers/laws.h"
#include "policy/recording/record.h"
#include "policy/sim/generator.h"
#include "policy/sim/runner.h"
#include "policy/sim/scenario_file.h"

namespace balloon::policy::sim {
namespace {

const peers::Law& today() { return *peers::find_law("balloond"); }
const peers::Law& kept() { return *peers::find_law("balloond-1"); }

struct Difference {
  std::uint64_t decisions = 0;
  std::uint64_t plans = 0;
};

/// Both laws on the same snapshots; today's is carried out.
class Both final : public Controller {
 public:
  Both(const Tunables& tunables, Difference& difference)
      : today_(today().make(tunables)), kept_(kept().make(tunables)), difference_(difference) {}
  Plan decide(const Snapshot& snapshot) override {
    Plan plan = today_->decide(snapshot);
    ++difference_.decisions;
    Plan admitted = plan;
    Plan other = kept_->decide(snapshot);
    bool same = recording::same(plan, other);
    const std::vector<Move> moves = today().admit(admitted, snapshot.guests);
    same &= std::ranges::equal(moves, kept().admit(other, snapshot.guests), [](const Move& a, const Move& b) {
      return a.guest == b.guest && a.target == b.target;
    });
    if (!same || !recording::same(admitted, other)) ++difference_.plans;
    return plan;
  }

 private:
  std::unique_ptr<Controller> today_;
  std::unique_ptr<Controller> kept_;
  Difference& difference_;
};

Difference difference_over(const Scenario& scenario, std::uint64_t seed) {
  Difference difference;
  const Contender both{.name = "both",
                       .summary = {},
                       .period = today().period,
                       .admit = today().admit,
                       .urgent = today().urgent,
                       .make = [&](const Scenario& its, std::uint64_t) {
                         return std::make_unique<Both>(its.tunables, difference);
                       }};
  run(scenario, both, {.seed = seed});
  return difference;
}

TEST(Balloond1, PlansWhatBalloondPlansInEveryScenario) {
  for (const auto& file : std::filesystem::directory_iterator(SCENARIO_DIR)) {
    auto scenario = load_scenario(file.path());
    ASSERT_TRUE(scenario) << scenario.error().message;
    scenario->duration = std::min<Time>(scenario->duration, std::chrono::minutes(10));
    const Difference difference = difference_over(*scenario, 1);
    EXPECT_GT(difference.decisions, 0U) << file.path();
    EXPECT_EQ(difference.plans, 0U) << file.path();
  }
}

TEST(Balloond1, PlansWhatBalloondPlansOnThirtySeeds) {
  for (std::uint64_t seed = 9000; seed < 9030; ++seed) {
    Scenario scenario = generate(seed, {.guests = 8, .duration = std::chrono::minutes(5)});
    if (seed % 3 == 0) scenario.tunables.margin_ratio = 0.3;
    if (seed % 5 == 0) scenario.tunables.host_reserve /= 2;
    if (seed % 7 == 0) scenario.tunables.surplus = Surplus::guests;
    EXPECT_EQ(difference_over(scenario, seed).plans, 0U) << "seed " << seed;
  }
}

TEST(Balloond1, IsUrgentForWhatBalloondIsUrgentFor) {
  for (Bytes used_before = 0; used_before <= 10; ++used_before) {
    for (Bytes available = 0; available <= 20; ++available) {
      const UseSample sample{2ULL << 30, available * (100ULL << 20), used_before * (200ULL << 20)};
      Tunables tunables;
      tunables.margin_ratio = 0.05 * static_cast<double>(used_before);
      EXPECT_EQ(kept().urgent(sample, tunables), today().urgent(sample, tunables));
    }
  }
}

}  // namespace
}  // namespace balloon::policy::sim
