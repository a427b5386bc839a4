// SPDX-License-Identifier: Apache-2.0
// Many random scenarios under several laws: the median and the worst of each score, and who was better how
// often.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "policy/sim/comparison.h"
#include "policy/sim/generator.h"

namespace balloon::policy::sim {

struct SweepOptions {
  std::uint64_t first_seed = 1;
  std::uint64_t seeds = 100;
  GeneratorOptions generator;
  SwapDevice (*swap)(Bytes size) = nullptr;  ///< the host's in all of them; null: as drawn
  std::function<void(Scenario&)> change;     ///< what else is otherwise in all of them
};

/// One score of one law over all seeds, and how the first law did against it.
struct SweepCell {
  double mean = 0;
  double median = 0;
  double p90 = 0;
  double worst = 0;
  std::uint64_t worst_seed = 0;
  std::uint64_t wins = 0;  ///< seeds in which the first law was better than this one
  std::uint64_t ties = 0;  ///< within 1 % or next to nothing
  std::uint64_t losses = 0;
};

struct Sweep {
  SweepOptions options;
  std::vector<const Contender*> laws;
  std::vector<std::vector<SweepCell>> cells;  ///< by law, by score as in kScores
  std::vector<std::vector<Scores>> scores;    ///< by seed, by law
  std::vector<double> bounds;                 ///< of cost, by seed
};

/// A run that has less cost than any can have: then the bound is wrong, or the plant gives what it does not
/// have.
struct BelowBound {
  std::uint64_t seed = 0;
  const Contender* law = nullptr;
  double cost = 0;
  double bound = 0;
};
std::vector<BelowBound> below_bound(const Sweep& sweep);

Sweep sweep(const std::vector<const Contender*>& laws, const SweepOptions& options,
            const OnProgress& on_progress);

std::string to_table(const Sweep& sweep);
std::string to_json(const Sweep& sweep);
/// One line a seed and law.
std::string to_csv(const Sweep& sweep);

}  // namespace balloon::policy::sim
