#include <fmt/format.h>

#include "base/bytes.h"
#include "policy/types.h"

namespace balloon::policy {
namespace {

std::string because(const Plan& plan, const GuestPlan& guest, const GuestSnapshot& seen) {
  switch (guest.reason) {
    case Reason::need:
      return "it gets all that it needs";
    case Reason::minimum:
      return fmt::format("it needs no more than its guaranteed minimum of {}", format_bytes(seen.limits.min));
    case Reason::maximum:
      return fmt::format("it may have all of its maximum of {}", format_bytes(seen.limits.max));
    case Reason::share:
      return fmt::format(
          "guests need more than the {} that the host has for them: this is its share by weight {}",
          format_bytes(plan.budget), seen.limits.weight);
    case Reason::deadband:
      return fmt::format("its share of {} is too little more to be worth a change",
                         format_bytes(guest.share));
    case Reason::rate_limit:
      return fmt::format("nobody waits for its memory, so it shrinks to {} step by step",
                         format_bytes(guest.share));
    case Reason::hold:
      return "it is held: it grew a moment ago, or is under pressure while others have idle memory to give "
             "first";
    case Reason::pin:
      return "a person or scheduler set it";
    case Reason::stale:
      return guest.state == GuestState::stuck
                 ? "its balloon makes no progress: it is counted as it is and tried again later"
             : guest.state == GuestState::booting
                 ? "its balloon driver has sent no statistics yet: its size is held"
                 : "its statistics are missing, old or impossible: its size is held";
    case Reason::waiting:
      return fmt::format("it should have {} and waits for other guests to free the rest",
                         format_bytes(guest.share));
    case Reason::surplus:
      return "nobody else needs the rest: it has it as cache";
    case Reason::unspecified:
      break;
  }
  return "no decision yet";
}

}  // namespace

std::string explain(const Plan& plan, const GuestPlan& guest, const GuestSnapshot& seen) {
  return fmt::format("{} has {} and uses {}; it needs {}, between {} and {}. Target {}: {}.", guest.name,
                     format_bytes(seen.actual), format_bytes(guest.used), format_bytes(guest.need),
                     format_bytes(seen.limits.min), format_bytes(seen.limits.max), format_bytes(guest.target),
                     because(plan, guest, seen));
}

}  // namespace balloon::policy
