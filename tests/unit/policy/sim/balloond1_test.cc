// SPDX-License-Identifier: Apache-2.0
// balloond-1 is frozen: what it scored when balloond's law began to change is what it scores now.
#include <gtest/gtest.h>

#include "policy/sim/generator.h"
#include "policy/sim/runner.h"

namespace balloon::policy::sim {
namespace {

struct Kept {
  std::uint64_t seed;
  double deficit;
  double moved;
  double resizes;
};

/// Of seeds 9000 to 9011, each with 8 guests for 5 minutes, some with other tunables.
constexpr Kept kKept[] = {
    {9000, 99.70731159919228, 27.555680443532772, 147},  {9001, 604.3156328957084, 108.03547255575975, 1620},
    {9002, 271.4077592678965, 45.80760717743489, 843},   {9003, 72.35307927513271, 52.90658907100876, 874},
    {9004, 1.2318807972005934, 20.450942762196007, 58},  {9005, 636.8099407242481, 22.07934743631654, 697},
    {9006, 1704.8209528923194, 17.149857196006902, 315}, {9007, 102.47203219592723, 56.700685223617164, 691},
    {9008, 35.4407578848445, 25.717333599861014, 57},    {9009, 5022.223817304632, 51.19546318133047, 1444},
    {9010, 41.165471443412784, 29.197921652346473, 101}, {9011, 2.014111868140553, 7.781667865812743, 54},
};

void expect_same(double now, double kept, std::uint64_t seed) {
  EXPECT_NEAR(now, kept, 1e-9 * std::max(1.0, kept)) << "seed " << seed;
}

TEST(Balloond1, ScoresWhatItScoredWhenItWasFrozen) {
  for (const Kept& kept : kKept) {
    Scenario scenario = generate(kept.seed, {.guests = 8, .duration = std::chrono::minutes(5)});
    if (kept.seed % 3 == 0) scenario.tunables.margin_ratio = 0.3;
    if (kept.seed % 5 == 0) scenario.tunables.host_reserve /= 2;
    const Scores scores = run(scenario, *find_contender("balloond-1"), {.seed = kept.seed}).scores;
    expect_same(scores.deficit, kept.deficit, kept.seed);
    expect_same(scores.moved, kept.moved, kept.seed);
    expect_same(scores.resizes, kept.resizes, kept.seed);
  }
}

}  // namespace
}  // namespace balloon::policy::sim
