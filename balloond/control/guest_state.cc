// SPDX-License-Identifier: Apache-2.0
#include "balloond/control/guest_state.h"

#include "balloond/control/state.h"

namespace balloon::daemon {

static_assert(static_cast<int>(policy::GuestState::disconnected) ==
              static_cast<int>(GuestState::disconnected));
static_assert(static_cast<int>(policy::Reason::surplus) == static_cast<int>(Reason::surplus));

GuestState state_of(const GuestStatus& guest) {
  const GuestRecord& record = guest.record;
  const policy::GuestPlan& plan = guest.plan;
  if (!record.connected) return GuestState::disconnected;
  if (guest.contested_until) return GuestState::contested;
  if (record.balloon.paused) return GuestState::paused;
  if (!record.balloon.obstacle.empty()) return GuestState::left_alone;
  if (plan.state == policy::GuestState::disconnected) return GuestState::booting;  // its driver went away
  const bool by_host = plan.why.source == policy::Source::host;
  if (plan.state == policy::GuestState::controlled && by_host) return GuestState::blind;
  return static_cast<GuestState>(plan.state);
}

Reason reason_of(const GuestStatus& guest) {
  if (guest.plan.reason != policy::Reason::stale) return static_cast<Reason>(guest.plan.reason);
  switch (state_of(guest)) {
    case GuestState::booting:
      return Reason::booting;
    case GuestState::stuck:
      return Reason::stuck;
    case GuestState::disconnected:
      return Reason::disconnected;
    case GuestState::paused:
      return Reason::paused;
    case GuestState::left_alone:
      return Reason::left_alone;
    case GuestState::contested:
      return Reason::contested;
    default:
      return Reason::stale;
  }
}

policy::Condition blocker_of(const GuestStatus& guest) {
  const policy::Condition condition = guest.plan.why.otherwise.condition;
  if (condition != policy::Condition::statistics) return condition;
  const Reason reason = reason_of(guest);
  return reason == Reason::stale || reason == Reason::booting ? condition : policy::Condition::balloon;
}

}  // namespace balloon::daemon
