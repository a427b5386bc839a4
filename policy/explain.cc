// SPDX-License-Identifier: Apache-2.0
#include "policy/explain.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/bytes.h"
#include "policy/holdings.h"
#include "policy/rate.h"

namespace balloon::policy {
namespace {

/// Of a guest whose size is held, why it is.
std::string why_held_in(GuestState state) {
  switch (state) {
    case GuestState::booting:
      return "its balloon driver is not up, or has sent no statistics yet";
    case GuestState::disconnected:
      return "nobody can move its balloon";
    default:
      return "its statistics are missing, old or impossible";
  }
}

std::string because(const GuestPlan& guest, const GuestLimits& limits, Bytes budget,
                    const std::string& why_held) {
  switch (guest.reason) {
    case Reason::need:
      return "it gets all that it needs";
    case Reason::minimum:
      return fmt::format("it needs no more than its guaranteed minimum of {}", format_bytes(limits.min));
    case Reason::maximum:
      return fmt::format("it may have all of its maximum of {}", format_bytes(limits.max));
    case Reason::share:
      if (guest.why.otherwise.condition == Condition::group)
        return fmt::format(
            "the guests of its group {} need more than the group may have: this is its share by weight {}",
            limits.group, limits.weight);
      return fmt::format(
          "guests need more than the {} that the host has for them: this is its share by weight {}",
          format_bytes(budget), limits.weight);
    case Reason::deadband:
      return fmt::format("its share of {} is too little more to be worth a change",
                         format_bytes(guest.share));
    case Reason::rate_limit:
      return fmt::format("no more of its memory is needed at once, so it shrinks to {} step by step",
                         format_bytes(guest.share));
    case Reason::hold:
      if (guest.why.otherwise.condition == Condition::growth)
        return "it is held: its use or its page cache rises, and would want back what is taken";
      return guest.why.pressure == Pressure::none
                 ? "it is held: it grew a moment ago, or what was taken from it before had to be given back"
                 : "it is held: it is under pressure, and others have idle memory to give first";
    case Reason::pin:
      return "a person or scheduler set it";
    case Reason::stale:
      if (guest.state == GuestState::stuck) return "its balloon makes no progress, and is tried again later";
      return "its size is held, as " + (why_held.empty() ? why_held_in(guest.state) : why_held);
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

std::string_view name_of(Signal signal) {
  switch (signal) {
    case Signal::none:
      break;
    case Signal::low_available:
      return "it has next to nothing available";
    case Signal::swap_in:
      return "it reads back from its swap";
    case Signal::major_faults:
      return "it reads back page cache that it had";
    case Signal::alloc_stalls:
      return "its allocations stall";
    case Signal::oom_kill:
      return "its kernel killed a process for want of memory";
    case Signal::host_swap_in:
      return "the host reads it back from swap";
    case Signal::host_refaults:
      return "the host reads it back from disk";
    case Signal::host_pressure:
      return "its process waits for memory on the host";
  }
  return "";
}

/// What the need is made of, the terms that count.
std::string terms(const GuestPlan& guest) {
  const NeedTerms& need = guest.why.need;
  if (guest.why.source == Source::none) return "";
  const bool by_host = guest.why.source == Source::host;
  std::string text = fmt::format(" ({} {}", format_bytes(need.used), by_host ? "touched" : "used");
  const auto add = [&text](Bytes bytes, std::string_view what) {
    if (bytes >= kMiB) text += fmt::format(" + {} {}", format_bytes(bytes), what);
  };
  add(need.margin, "margin");
  add(need.growth, "growth");
  add(need.swapped, "swapped out");
  add(need.cache, "cache in use");
  add(need.rescue, "to let it out at once");
  add(need.recent, "of a moment ago");
  text += ")";
  if (by_host)
    text += ", by what the host sees of it, as it has sent no statistics that can be believed for long";
  if (guest.why.trust == Trust::limited)
    text += ", as it says it uses more than it can have touched, or than it shows";
  return text;
}

/// What it has, uses and needs, as far as that is known, and what it may have.
std::string figures(const GuestPlan& guest, const GuestLimits& limits, Bytes actual) {
  std::string text = fmt::format("{} has {}", guest.name, format_bytes(actual));
  if (knows_use(guest)) {
    text += fmt::format(" and uses {}; ", format_bytes(guest.used));
  } else {
    text += knows_need(guest) ? "; what it uses is unknown; " : "; what it uses and needs is unknown; ";
  }
  text += knows_need(guest) ? fmt::format("it needs {}{}, between", format_bytes(guest.need), terms(guest))
                            : "it may have";
  return text + fmt::format(" {} {} {}.", format_bytes(limits.min), knows_need(guest) ? "and" : "to",
                            format_bytes(limits.max));
}

/// What it takes of the budget, where that is not what it was asked to be.
std::string counts_with(const GuestPlan& guest, Bytes actual) {
  if (is_promised(guest.state)) return "";
  if (guest.untouched < kMiB) return " All that it has counts.";
  return fmt::format(
      " It counts with {}: what it has touched, may soon touch or is guaranteed. The other {} are there for "
      "others.",
      format_bytes(above(std::max(actual, guest.target), guest.untouched)), format_bytes(guest.untouched));
}

std::string otherwise(const GuestPlan& guest, const GuestLimits& limits) {
  const Alternative& other = guest.why.otherwise;
  const std::string target = format_bytes(other.target);
  const std::string amount = format_bytes(other.amount);
  if (guest.reason == Reason::waiting)
    return fmt::format(" It gets {} once others have freed {}.", format_bytes(guest.share),
                       format_bytes(above(guest.share, guest.target)));
  switch (other.condition) {
    case Condition::none:
    case Condition::others:
      return "";
    case Condition::budget:
      return fmt::format(" With {} more on the host it would have {}.", amount, target);
    case Condition::maximum:
      return fmt::format(" A higher maximum than {} would let it have more.", format_bytes(limits.max));
    case Condition::minimum:
      return fmt::format(" A lower minimum would leave it {}.", target);
    case Condition::group:
      return fmt::format(" With a higher maximum of its group it would have {}.", target);
    case Condition::larger_change:
      return fmt::format(" A change of {} or more would be made.", amount);
    case Condition::time:
      return fmt::format(" In {:.0f} s it would be at {}.", std::ceil(seconds(other.wait)), target);
    case Condition::pressure:
      return fmt::format(" Without the pressure it would shrink to {}.", target);
    case Condition::growth:
      return fmt::format(" Once it has come to rest it would shrink to {}.", target);
    case Condition::statistics:
      return guest.state == GuestState::disconnected
                 ? ""
                 : " Statistics that can be believed would let it be moved.";
    case Condition::balloon:
      return " A balloon that moves would let it be moved.";
    case Condition::pin:
      return knows_need(guest) ? fmt::format(" Without the pin it would need {}.", target) : "";
  }
  return "";
}

}  // namespace

Alternative alternative_to(const GuestPlan& mine, const GuestSnapshot& seen, const Constraints& constraints) {
  switch (mine.reason) {
    case Reason::share: {
      const Bytes lacking = above(mine.need, mine.share);
      return {constraints.group_full ? Condition::group : Condition::budget, mine.need, lacking, {}};
    }
    case Reason::maximum:
      return mine.need >= seen.limits.max && seen.limits.max < seen.memory
                 ? Alternative{Condition::maximum, seen.memory, seen.memory - seen.limits.max, {}}
                 : Alternative{};
    case Reason::minimum:
      // Its need is clamped to the minimum: what it would be without is in the terms.
      return {Condition::minimum,
              std::min(mine.need, mine.why.need.used + mine.why.need.margin + mine.why.need.growth),
              Bytes{0},
              {}};
    case Reason::deadband:
      return {Condition::larger_change, mine.share, constraints.deadband, {}};
    case Reason::rate_limit: {
      const auto left = static_cast<double>(above(mine.target, mine.share));
      const double wait = constraints.shrink_per_second > 0 ? std::min(left / constraints.shrink_per_second,
                                                                       seconds(constraints.foretold_max))
                                                            : 0;
      return {Condition::time, mine.share, static_cast<Bytes>(left),
              std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::duration<double>(wait))};
    }
    case Reason::hold:
      if (mine.why.pressure != Pressure::none) return {Condition::pressure, mine.share, Bytes{0}, {}};
      if (constraints.grows) return {Condition::growth, mine.share, Bytes{0}, {}};
      return {Condition::time, mine.share, Bytes{0}, constraints.held_for};
    case Reason::pin:
      return {Condition::pin, mine.need, Bytes{0}, {}};
    case Reason::stale:
      return {mine.state == GuestState::stuck ? Condition::balloon : Condition::statistics,
              mine.need,
              Bytes{0},
              {}};
    default:
      return {};
  }
}

bool knows_use(const GuestPlan& guest) { return guest.why.source == Source::statistics; }

bool knows_need(const GuestPlan& guest) {
  return guest.why.source != Source::none && guest.state != GuestState::booting &&
         guest.state != GuestState::disconnected;
}

std::string explain(const GuestPlan& guest, const GuestLimits& limits, Bytes actual, Bytes budget,
                    const std::string& why_held) {
  std::string text =
      figures(guest, limits, actual) +
      fmt::format(" Target {}: {}.", format_bytes(guest.target), because(guest, limits, budget, why_held));
  if (guest.why.pressure != Pressure::none)
    text += fmt::format(" It is {}: {}.",
                        guest.why.pressure == Pressure::critical ? "critical" : "under pressure",
                        name_of(guest.why.signal));
  return text + counts_with(guest, actual) + otherwise(guest, limits);
}

}  // namespace balloon::policy
