// SPDX-License-Identifier: Apache-2.0
#include "policy/donors.h"

#include <algorithm>

#include "policy/holdings.h"

namespace balloon::policy {
namespace {

/// What all shares come to; bytes.
struct Sums {
  double held = 0;           ///< what all are counted at now
  double needed = 0;         ///< what guests will have, and what they need of their shares
  double claimed = 0;        ///< the same with what they claim of their shares
  double free = 0;           ///< what is left of the budget beside what is held and claimed
  double beyond_claims = 0;  ///< what shares are above that
  bool others_idle = false;  ///< idle memory that nobody asked for yet

  /// One that counts at just that.
  void take(Bytes size) {
    held += static_cast<double>(size);
    needed += static_cast<double>(size);
    claimed += static_cast<double>(size);
    free -= static_cast<double>(size);
  }
};

/// What a guest has beyond its share, by what it costs it.
Excess excess_of(const GuestDecision& mine, Bytes share) {
  // What was taken since its sample was the cheapest, and is not there again.
  const Bytes taken = above(mine.sampled, mine.settling);
  return split(mine.settling - share, above(mine.available, taken), above(mine.free, taken), mine.hot_cache,
               mine.pressure);
}

void add_movable(Decision& decision, std::size_t index, Sums& sums) {
  const GuestSnapshot& guest = decision.snapshot.guests[index];
  const GuestPlan& plan = decision.plan.guests[index];
  const Levels& levels = decision.levels(index);
  GuestDecision& mine = decision.guests[index];
  const Bytes share = plan.share;
  // More than is claimed comes only out of what is free.
  const Bytes claim = std::min(share, levels[Level::claim]);
  const Bytes counts = counted(plan, guest, guest.target);
  const Bytes taken = std::max(counts, claim);
  const Bytes stays = mine.stuck() ? counts : mine.settling;
  sums.held += static_cast<double>(counts);
  sums.needed += static_cast<double>(std::max(stays, std::min(share, levels[Level::need])));
  sums.claimed += static_cast<double>(std::max(stays, claim));
  sums.free -= static_cast<double>(taken);
  if (share > taken) sums.beyond_claims += static_cast<double>(share - taken);
  // A balloon that has failed is tried again, but nobody counts on what it will free.
  if (mine.settling <= share || mine.stuck()) return;
  mine.excess = excess_of(mine, share);
  decision.reclaim.add(mine.excess);
  // What is on its way already cannot be given twice.
  sums.others_idle |= mine.settling > add(std::max(share, plan.need), mine.deadband);
}

}  // namespace

void ask_donors(Decision& decision) {
  const auto budget = static_cast<double>(decision.plan.budget);
  Sums sums{.free = budget};
  for (std::size_t i = 0; i < decision.guests.size(); ++i) {
    if (decision.guests[i].movable) {
      add_movable(decision, i, sums);
    } else {
      sums.take(decision.levels(i)[Level::minimum]);
    }
  }
  for (const Bytes share : decision.reservation_shares) sums.take(share);
  decision.surplus_ratio = sums.beyond_claims <= 0 ? 1 : std::clamp(sums.free / sums.beyond_claims, 0.0, 1.0);
  decision.over_budget = sums.held > budget;

  const StateActions& actions = decision.actions();
  const double refill =
      decision.tunables.constants.headroom_refill_ratio * static_cast<double>(decision.headroom());
  decision.reclaim.ask(sums.claimed + refill - budget, Cost::free);
  decision.reclaim.ask(sums.needed - budget,
                       sums.others_idle && !actions.pressed_give ? Cost::anonymous : Cost::pressed);
  if (actions.full_speed) decision.reclaim.ask_everything();
}

}  // namespace balloon::policy
