// SPDX-License-Identifier: Apache-2.0
// What generator 1 draws is run by a plant without effects, and gives what the simulator gave before it had
// any: generator1.csv is the output of `balloon-sim sweep --seeds 8 -o csv` of that time, of laws that stay
// as they are.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "policy/sim/sweep.h"
#include "tests/unit/policy/random_host.h"

namespace balloon::policy::sim {
namespace {

constexpr std::uint64_t kSeeds = 8;

std::vector<std::string> cells_of(const std::string& line) {
  std::vector<std::string> cells;
  std::stringstream in(line);
  for (std::string cell; std::getline(in, cell, ',');) cells.push_back(cell);
  return cells;
}

TEST(GeneratorOne, GivesByteForByteWhatItGaveBeforeThePlantHadEffects) {
  std::ifstream file(GENERATOR1_CSV);
  std::string line;
  ASSERT_TRUE(std::getline(file, line)) << GENERATOR1_CSV;
  const std::vector<std::string> names = cells_of(line);
  ASSERT_GT(names.size(), 20U);
  std::vector<const Contender*> laws;
  std::map<std::pair<std::string, std::string>, std::vector<std::string>> expected;
  while (std::getline(file, line)) {
    const std::vector<std::string> cells = cells_of(line);
    ASSERT_EQ(cells.size(), names.size());
    if (cells[0] == "1") laws.push_back(find_contender(cells[1]));
    ASSERT_NE(laws.back(), nullptr) << cells[1];
    expected[{cells[0], cells[1]}] = cells;
  }
  SweepOptions options;
  options.seeds = kSanitized ? 2 : kSeeds;
  options.generator.generator = 1;
  const Sweep result = sweep(laws, options, {});
  for (std::size_t seed = 0; seed < result.scores.size(); ++seed) {
    for (std::size_t law = 0; law < laws.size(); ++law) {
      const auto& cells = expected[{fmt::format("{}", seed + 1), laws[law]->name}];
      ASSERT_EQ(cells.size(), names.size()) << "seed " << seed + 1 << ", " << laws[law]->name;
      for (std::size_t column = 2; column < names.size(); ++column) {
        const auto score = std::ranges::find(kScores, std::string_view(names[column]), &ScoreInfo::name);
        ASSERT_NE(score, kScores.end()) << names[column];
        EXPECT_EQ(fmt::format("{}", result.scores[seed][law].*score->value), cells[column])
            << names[column] << " of seed " << seed + 1 << " under " << laws[law]->name;
      }
    }
  }
}

}  // namespace
}  // namespace balloon::policy::sim
