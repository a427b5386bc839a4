// SPDX-License-Identifier: Apache-2.0
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/bytes.h"
#include "policy/sim/replay.h"

namespace balloon::policy::sim {
namespace {

using Json = nlohmann::ordered_json;

const char* name_of(Reason reason) {
  switch (reason) {
    case Reason::unspecified:
      return "unspecified";
    case Reason::need:
      return "need";
    case Reason::minimum:
      return "minimum";
    case Reason::maximum:
      return "maximum";
    case Reason::share:
      return "share";
    case Reason::deadband:
      return "deadband";
    case Reason::rate_limit:
      return "rate_limit";
    case Reason::hold:
      return "hold";
    case Reason::pin:
      return "pin";
    case Reason::stale:
      return "stale";
    case Reason::waiting:
      return "waiting";
    case Reason::surplus:
      return "surplus";
  }
  return "unknown";
}

const char* name_of(GuestState state) {
  switch (state) {
    case GuestState::unspecified:
      return "unspecified";
    case GuestState::booting:
      return "booting";
    case GuestState::controlled:
      return "controlled";
    case GuestState::stale:
      return "stale";
    case GuestState::stuck:
      return "stuck";
    case GuestState::pinned:
      return "pinned";
    case GuestState::disconnected:
      return "disconnected";
  }
  return "unknown";
}

std::string time_text(std::chrono::milliseconds wall) {
  // Of the years that fmt can show; a recording may say anything.
  constexpr std::chrono::milliseconds kLast = std::chrono::hours(24 * 365 * 1000);
  const auto shown = std::clamp(wall, std::chrono::milliseconds(0), kLast);
  const auto seconds = std::chrono::floor<std::chrono::seconds>(shown);
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", fmt::gmtime(static_cast<std::time_t>(seconds.count())),
                     (shown - seconds).count());
}

double mean(const GuestReplay& guest) {
  return guest.targets == 0 ? 0 : (guest.more + guest.less) / static_cast<double>(guest.targets);
}

std::string size_text(double bytes) { return format_bytes(static_cast<Bytes>(bytes)); }

/// Bytes exactly where rounding would hide a difference.
std::string pair_text(Bytes bytes) { return fmt::format("{} ({})", bytes.count(), format_bytes(bytes)); }

GuestReplay sum_of(const ReplayReport& report) {
  GuestReplay all;
  for (const auto& [name, guest] : report.guests) {
    all.ticks += guest.ticks;
    all.targets += guest.targets;
    all.reasons += guest.reasons;
    all.states += guest.states;
    all.more += guest.more;
    all.less += guest.less;
    all.largest = std::max(all.largest, guest.largest);
  }
  return all;
}

std::string plan_text(const char* which, const GuestPlan& plan) {
  return fmt::format("  {}: target {}, share {}, need {}, used {}; {}, {}\n", which, pair_text(plan.target),
                     pair_text(plan.share), pair_text(plan.need), pair_text(plan.used), name_of(plan.reason),
                     name_of(plan.state));
}

std::string notes(const ReplayReport& report) {
  std::string out;
  if (report.missing_files != 0) {
    out += fmt::format(
        "Missing:     the first {} files of the recording are gone: differences in the first minutes may "
        "come from memory that the engine had\n",
        report.missing_files);
  }
  if (report.missing_ticks != 0)
    out += fmt::format("Missing:     {} decisions were not recorded, or are gone\n", report.missing_ticks);
  if (report.warm_up != 0) {
    out += fmt::format("Warm-up:     {} decisions do not count; {} of them are different\n", report.warm_up,
                       report.warm_up_differences);
  }
  if (report.torn != 0)
    out += fmt::format("Torn:        {} files end within a record: the daemon was killed, or is at it\n",
                       report.torn);
  return out;
}

std::string budget_text(const ReplayReport& report) {
  if (report.over_budget == 0)
    return fmt::format("Budget:      guests had no more than it in all {} decisions\n", report.ticks);
  return fmt::format(
      "Budget:      guests had more than it in {} of {} decisions, by {} at most, at {}; in {} more than it "
      "had been within {} s\n",
      report.over_budget, report.ticks, format_bytes(report.over_budget_most),
      time_text(report.over_budget_most_at), report.over_promised, kTimeToGive.count());
}

std::string guest_table(const ReplayReport& report) {
  std::size_t width = 5;
  for (const auto& [name, guest] : report.guests) width = std::max(width, name.size());
  std::string out = fmt::format("\n{:{}} {:>9} {:>13} {:>10} {:>10} {:>13} {:>12}\n", "GUEST", width, "TICKS",
                                "OTHER TARGET", "MEAN", "LARGEST", "OTHER REASON", "OTHER STATE");
  const auto row = [&](const std::string& name, const GuestReplay& guest) {
    out += fmt::format("{:{}} {:>9} {:>13} {:>10} {:>10} {:>13} {:>12}\n", name, width, guest.ticks,
                       guest.targets, size_text(mean(guest)), format_bytes(guest.largest), guest.reasons,
                       guest.states);
  };
  for (const auto& [name, guest] : report.guests) row(name, guest);
  row("all", sum_of(report));
  return out;
}

Json plan_json(const GuestPlan& plan) {
  return {{"target_bytes", plan.target.count()}, {"share_bytes", plan.share.count()},
          {"need_bytes", plan.need.count()},     {"used_bytes", plan.used.count()},
          {"reason", name_of(plan.reason)},      {"state", name_of(plan.state)}};
}

Json guest_json(const GuestReplay& guest) {
  return {{"ticks", guest.ticks},
          {"other_targets", guest.targets},
          {"mean_difference_bytes", mean(guest)},
          {"largest_difference_bytes", guest.largest.count()},
          {"more_byte_ticks", guest.more},
          {"less_byte_ticks", guest.less},
          {"other_reasons", guest.reasons},
          {"other_states", guest.states}};
}

}  // namespace

std::string to_table(const ReplayReport& report) {
  std::string out =
      fmt::format("Recording:   {} to {}: {} decisions on {} guests in {} runs of the daemon; {} files, {}\n",
                  time_text(report.from), time_text(report.to), report.ticks, report.guests.size(),
                  report.runs, report.files, format_bytes(report.bytes));
  out += budget_text(report);
  out += notes(report);
  out += fmt::format("Decided by:  {}\n",
                     report.law.empty() ? "this program's engine, with the recorded tunables" : report.law);
  const std::uint64_t counted = report.ticks - report.warm_up;
  if (report.different == 0) {
    return out + fmt::format("Result:      all {} plans are {}\n", counted,
                             report.law.empty() ? "identical" : "the same");
  }
  out += fmt::format("Result:      {} of {} plans are different", report.different, counted);
  out += report.host_states == 0 ? "\n"
                                 : fmt::format("; {} with another state of the host\n", report.host_states);
  if (report.first) {
    const FirstDifference& first = *report.first;
    out += fmt::format("First:       {}, decision {}: {}{}\n", time_text(first.wall), first.tick,
                       first.guest.empty() ? "" : "guest " + first.guest + ": ", first.what);
    if (!first.guest.empty())
      out += plan_text("recorded", first.recorded) + plan_text("replayed", first.replayed);
  }
  return out + guest_table(report);
}

std::string to_json(const ReplayReport& report) {
  Json guests = Json::object();
  for (const auto& [name, guest] : report.guests) guests[name] = guest_json(guest);
  Json out{{"from", time_text(report.from)},
           {"to", time_text(report.to)},
           {"decided_by", report.law.empty() ? Json(nullptr) : Json(report.law)},
           {"files", report.files},
           {"runs", report.runs},
           {"bytes", report.bytes.count()},
           {"ticks", report.ticks},
           {"counted_ticks", report.ticks - report.warm_up},
           {"different_ticks", report.different},
           {"warm_up_different_ticks", report.warm_up_differences},
           {"other_host_states", report.host_states},
           {"over_budget_ticks", report.over_budget},
           {"over_budget_most_bytes", report.over_budget_most.count()},
           {"over_promised_ticks", report.over_promised},
           {"torn_files", report.torn},
           {"missing_files", report.missing_files},
           {"missing_ticks", report.missing_ticks},
           {"first_difference", nullptr},
           {"all", guest_json(sum_of(report))},
           {"guests", guests}};
  if (report.first) {
    const FirstDifference& first = *report.first;
    out["first_difference"] = {{"at", time_text(first.wall)},
                               {"tick", first.tick},
                               {"guest", first.guest.empty() ? Json(nullptr) : Json(first.guest)},
                               {"what", first.what},
                               {"recorded", plan_json(first.recorded)},
                               {"replayed", plan_json(first.replayed)}};
  }
  return out.dump(-1, ' ', false, Json::error_handler_t::replace) + '\n';
}

std::string to_csv(const ReplayReport& report) {
  std::string out =
      "guest,ticks,other_targets,mean_difference_bytes,largest_difference_bytes,more_byte_ticks,"
      "less_byte_ticks,other_reasons,other_states\n";
  const auto row = [&](std::string name, const GuestReplay& guest) {
    // A guest's name has none of these by the daemon's rules; a recording may say anything.
    std::ranges::replace_if(name, [](char c) { return c == ',' || c == '"' || c == '\n' || c == '\r'; }, '_');
    out +=
        fmt::format("{},{},{},{:.0f},{},{:.0f},{:.0f},{},{}\n", name, guest.ticks, guest.targets, mean(guest),
                    guest.largest.count(), guest.more, guest.less, guest.reasons, guest.states);
  };
  for (const auto& [name, guest] : report.guests) row(name, guest);
  return out;
}

}  // namespace balloon::policy::sim
