// SPDX-License-Identifier: Apache-2.0
#include "policy/targets.h"

#include <algorithm>

#include "base/pages.h"
#include "policy/explain.h"
#include "policy/holdings.h"

namespace balloon::policy {
namespace {

Bytes part(double ratio, Bytes whole) { return static_cast<Bytes>(ratio * static_cast<double>(whole)); }

/// Why a guest that gets its whole share gets just that.
Reason reason_for_share(HostState state, const GuestPlan& plan, const GuestLimits& limits) {
  if (plan.share == limits.max) return Reason::maximum;
  if (plan.share < plan.need) return Reason::share;
  if (plan.share > plan.need && state == HostState::normal) return Reason::surplus;
  return plan.share == limits.min ? Reason::minimum : Reason::need;
}

/// The guest at `index` on its way to its share.
class Targeting {
 public:
  Targeting(Decision& decision, std::size_t index)
      : decision_(decision),
        guest_(decision.snapshot.guests[index]),
        mine_(decision.guests[index]),
        levels_(decision.levels(index)),
        plan_(decision.plan.guests[index]) {}

  void set() {
    if (mine_.rests && plan_.share < add(guest_.actual, mine_.deadband)) {
      // A driver that cannot reach its target burns guest CPU retrying.
      stay_at(std::min(guest_.actual, mine_.history->progress.resting_at()), Reason::stale);
      return;
    }
    plan_.target = plan_.share;
    plan_.reason = reason_for_share(decision_.plan.state, plan_, guest_.limits);
    if (plan_.share == guest_.target) return;
    if (stops_on_its_way_down()) {
      stay_at(guest_.actual, Reason::hold);
    } else if (plan_.share > guest_.target) {
      grow();
    } else {
      shrink();
    }
  }

  Alternative alternative() const {
    return alternative_to(
        plan_, guest_,
        {.group_full = mine_.group_full,
         .deadband = mine_.deadband,
         .held_for = mine_.history->probing.held_for(decision_.snapshot.now),
         .grows = mine_.outgrows || mine_.filling,
         .shrink_per_second = decision_.shrink_ratio_per_second() * static_cast<double>(guest_.memory),
         .foretold_max = decision_.tunables.constants.foretold_max});
  }

 private:
  void stay_at(Bytes size, Reason reason) {
    plan_.target = size;
    plan_.reason = reason;
  }
  double asked() const { return decision_.reclaim.asked(mine_.excess); }
  bool pressed() const { return mine_.pressure != Pressure::none; }
  bool outside_limits() const {
    return guest_.target < guest_.limits.min || guest_.target > guest_.limits.max || mine_.over_group;
  }
  bool stops_on_its_way_down() const {
    return mine_.outgrows && plan_.share < guest_.actual && guest_.actual <= guest_.limits.max &&
           !outside_limits() && asked() <= 0;
  }

  void grow() {
    const Bytes sure =
        std::max(counted(plan_, guest_, guest_.target), std::min(plan_.share, levels_[Level::claim]));
    if (plan_.share > sure) {
      const double surplus = decision_.surplus_ratio * static_cast<double>(plan_.share - sure);
      plan_.target = sure + whole_pages(static_cast<Bytes>(surplus));
    }
    if (!is_worth_a_grow() && !outside_limits()) {
      stay_at(guest_.target, Reason::deadband);
    } else if (plan_.target > guest_.actual) {
      mine_.history->probing.grown(decision_.snapshot.now, decision_.tunables);
    }
  }

  bool is_worth_a_grow() const {
    const Constants& constants = decision_.tunables.constants;
    const Bytes change = above(plan_.target, guest_.target);
    // What hurts a guest does not hurt less because it is big.
    if (pressed())
      return change >= std::min(part(constants.pressed_deadband_ratio, mine_.deadband),
                                decision_.tunables.deadband_min);
    if (guest_.target < mine_.grow_below) return change >= mine_.deadband;
    // More than it needs is for page cache, or for a burst to come: that has time until it is a good deal.
    return plan_.target > plan_.need &&
           change >= std::max(mine_.deadband, part(constants.cache_grow_ratio, guest_.target));
  }

  void shrink() {
    if (mine_.settling <= plan_.share || outside_limits()) return;
    // On a full host shares change with every change of a load: what only passes it on is no reason to move.
    if (guest_.target - plan_.share < mine_.deadband && !decision_.over_budget) {
      plan_.target = guest_.target;
      return;
    }
    plan_.target = next_step_down();
    if (plan_.target < guest_.target) mine_.history->probing.shrunk();
  }

  Bytes next_step_down() {
    const Bytes from = mine_.settling;
    const double asked_for = asked();
    const bool held_back =
        pressed() || mine_.filling || mine_.history->probing.held_for(decision_.snapshot.now) > Time{};
    if (asked_for <= 0 && held_back) {
      plan_.reason = Reason::hold;
      if (!pressed()) return guest_.target;
      return std::min(guest_.actual, std::max(guest_.limits.max, guest_.target));  // it stops where it is
    }
    double step = asked_for > 0 ? std::max(asked_for, static_cast<double>(mine_.deadband)) : 0;
    if (!held_back) {
      const double probed =
          decision_.shrink_ratio_per_second() * static_cast<double>(guest_.memory) * decision_.elapsed;
      step = std::max(step, probed);
    }
    if (step >= static_cast<double>(from - plan_.share)) return plan_.share;
    plan_.reason = Reason::rate_limit;
    return from - whole_pages(static_cast<Bytes>(step));
  }

  const Decision& decision_;
  const GuestSnapshot& guest_;
  const GuestDecision& mine_;
  const Levels& levels_;
  GuestPlan& plan_;
};

}  // namespace

void set_targets(Decision& decision) {
  for (std::size_t i = 0; i < decision.guests.size(); ++i) {
    Targeting guest(decision, i);
    if (decision.guests[i].movable) guest.set();
    decision.plan.guests[i].why.otherwise = guest.alternative();
  }
}

}  // namespace balloon::policy
