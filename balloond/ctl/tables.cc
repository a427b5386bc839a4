#include "balloond/ctl/tables.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "balloond/ctl/json.h"
#include "base/bytes.h"

namespace balloon::ctl {
namespace {

struct Cell {
  std::string text;
  bool right = false;
  const char* colour = "";
};

Cell size(Bytes bytes) { return {.text = format_bytes(bytes), .right = true}; }
Cell size_or_dash(bool has, Bytes bytes) { return has ? size(bytes) : Cell{.text = "-", .right = true}; }

std::string state_of(const v1::Guest& guest) {
  if (guest.has_contested()) return "contested";
  return short_name(*v1::GuestState_descriptor()->FindValueByNumber(guest.state()));
}

std::string reason_of(const v1::Guest& guest) {
  if (!guest.has_decision()) return "-";
  return short_name(*v1::Reason_descriptor()->FindValueByNumber(guest.decision().reason()));
}

const char* colour_of(v1::GuestState state) {
  switch (state) {
    case v1::GUEST_STATE_CONTROLLED:
      return "\033[32m";
    case v1::GUEST_STATE_PINNED:
    case v1::GUEST_STATE_BOOTING:
      return "\033[36m";
    case v1::GUEST_STATE_STALE:
    case v1::GUEST_STATE_STUCK:
      return "\033[33m";
    case v1::GUEST_STATE_DISCONNECTED:
      return "\033[31m";
    default:
      return "";
  }
}

std::string lay_out(const std::vector<std::vector<Cell>>& rows, const Style& style) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].text.size());
  }
  std::string out;
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      std::string text = row[i].right ? fmt::format("{:>{}}", row[i].text, widths[i])
                                      : fmt::format("{:<{}}", row[i].text, widths[i]);
      if (style.colour && row[i].colour[0] != '\0') text = row[i].colour + text + "\033[0m";
      line += (i == 0 ? "" : "  ") + text;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + '\n';
  }
  return out;
}

std::string details(const std::vector<std::pair<std::string, std::string>>& lines) {
  std::vector<std::vector<Cell>> rows;
  for (const auto& [key, value] : lines) rows.push_back({{.text = key + ":"}, {.text = value}});
  return lay_out(rows, {});
}

/// Label values are checked by the daemon to be printable.
std::string labels_of(const v1::Guest& guest) {
  std::vector<std::string> labels;
  for (const auto& [key, value] : guest.labels()) labels.push_back(key + "=" + value);
  std::ranges::sort(labels);
  return labels.empty() ? "-" : fmt::format("{}", fmt::join(labels, ", "));
}

std::string left_alone(const v1::Guest& guest) {
  if (!guest.obstacle().empty()) return guest.obstacle();
  if (!guest.has_contested()) return "-";
  const v1::Contest& contest = guest.contested();
  return fmt::format("until {}: somebody else moved its balloon from {} to {}",
                     format_time(contest.until().seconds(), contest.until().nanos()),
                     format_bytes(contest.from_bytes()), format_bytes(contest.to_bytes()));
}

std::string merging_of(const v1::Guest& guest) {
  const std::string is = !guest.has_merging() ? "its VMM does not say" : guest.merging() ? "on" : "off";
  if (guest.merging_refusal().empty()) return is;
  return fmt::format("{} (its VMM refused the change: {})", is, guest.merging_refusal());
}

std::string capabilities_of(const v1::Capabilities& can) {
  std::vector<std::string_view> words;
  const auto add = [&](bool has, std::string_view word) {
    if (has) words.push_back(word);
  };
  add(can.statistics(), "statistics");
  add(can.on_demand(), "on demand");
  add(can.events(), "events");
  add(can.free_page_reporting(), "free page reporting");
  add(can.ksm_switch(), "KSM switch");
  add(can.disk_reads(), "disk reads");
  return fmt::format("{} (steps of {})", words.empty() ? "-" : fmt::format("{}", fmt::join(words, ", ")),
                     format_bytes(can.granularity_bytes()));
}

std::string ksm_of(const v1::Host& host) {
  if (!host.has_ksm()) return "none";
  const v1::Ksm& ksm = host.ksm();
  const std::string by = ksm.controllable() ? "run by balloond" : "not run by balloond";
  if (!ksm.running()) return "off, " + by;
  const auto millis = ksm.sleep().seconds() * 1000 + ksm.sleep().nanos() / 1'000'000;
  return fmt::format("on, {}: {} pages every {} ms", by, ksm.pages_to_scan(), millis);
}

}  // namespace

std::string text_table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::vector<Cell>> cells;
  for (const auto& row : rows) {
    cells.emplace_back();
    for (const std::string& text : row) cells.back().push_back({.text = text});
  }
  return lay_out(cells, {});
}

std::string guest_table(const google::protobuf::RepeatedPtrField<v1::Guest>& guests, const Style& style) {
  std::vector<std::vector<Cell>> rows{{{.text = "GUEST"},
                                       {.text = "STATE"},
                                       {.text = "MEMORY", .right = true},
                                       {.text = "USED", .right = true},
                                       {.text = "AVAILABLE", .right = true},
                                       {.text = "TARGET", .right = true},
                                       {.text = "ACTUAL", .right = true},
                                       {.text = "RESIDENT", .right = true},
                                       {.text = "REASON"}}};
  for (const v1::Guest& guest : guests) {
    rows.push_back({{.text = guest.name()},
                    {.text = state_of(guest), .colour = colour_of(guest.state())},
                    size(guest.memory_bytes()),
                    size_or_dash(guest.has_decision() && guest.has_stats(), guest.decision().used_bytes()),
                    size_or_dash(guest.stats().has_available_bytes(), guest.stats().available_bytes()),
                    size(guest.target_bytes()),
                    size(guest.actual_bytes()),
                    size(guest.resident_bytes()),
                    {.text = reason_of(guest)}});
  }
  return lay_out(rows, style);
}

std::string guest_details(const v1::Guest& guest) {
  const v1::GuestStats& stats = guest.stats();
  const auto stat = [](bool has, Bytes bytes) { return has ? format_bytes(bytes) : std::string("-"); };
  const auto count = [](bool has, std::uint64_t value) {
    return has ? fmt::format("{}", value) : std::string("-");
  };
  return details({
      {"Guest", guest.name()},
      {"Labels", labels_of(guest)},
      {"State", state_of(guest)},
      {"Left alone", left_alone(guest)},
      {"Process", fmt::format("{} ({})", guest.pid(), guest.hypervisor())},
      {"Its VMM gives", capabilities_of(guest.capabilities())},
      {"Memory", format_bytes(guest.memory_bytes())},
      {"Limits", fmt::format("{} to {}, weight {}", format_bytes(guest.min_bytes()),
                             format_bytes(guest.max_bytes()), guest.weight())},
      {"Target", format_bytes(guest.target_bytes())},
      {"Actual", format_bytes(guest.actual_bytes())},
      {"Resident", fmt::format("{} (and {} in host swap)", format_bytes(guest.resident_bytes()),
                               format_bytes(guest.swapped_bytes()))},
      {"KSM", merging_of(guest)},
      {"Pinned until", guest.has_pinned_until()
                           ? format_time(guest.pinned_until().seconds(), guest.pinned_until().nanos())
                           : "-"},
      {"Sampled at",
       stats.has_sampled_at() ? format_time(stats.sampled_at().seconds(), stats.sampled_at().nanos()) : "-"},
      {"Total", stat(stats.has_total_bytes(), stats.total_bytes())},
      {"Available", stat(stats.has_available_bytes(), stats.available_bytes())},
      {"Free", stat(stats.has_free_bytes(), stats.free_bytes())},
      {"Disk caches", stat(stats.has_disk_caches_bytes(), stats.disk_caches_bytes())},
      {"Swapped in", stat(stats.has_swap_in_bytes(), stats.swap_in_bytes())},
      {"Swapped out", stat(stats.has_swap_out_bytes(), stats.swap_out_bytes())},
      {"Disk reads", stat(stats.has_disk_read_bytes(), stats.disk_read_bytes())},
      {"Major faults", count(stats.has_major_faults(), stats.major_faults())},
      {"Used", format_bytes(guest.decision().used_bytes())},
      {"Need", format_bytes(guest.decision().need_bytes())},
      {"Share", format_bytes(guest.decision().share_bytes())},
      {"Reason", reason_of(guest)},
  });
}

std::string reservation_table(const google::protobuf::RepeatedPtrField<v1::Reservation>& reservations) {
  std::vector<std::vector<Cell>> rows{{{.text = "RESERVATION"},
                                       {.text = "STATE"},
                                       {.text = "MIN", .right = true},
                                       {.text = "MAX", .right = true},
                                       {.text = "KEPT", .right = true},
                                       {.text = "PRIORITY", .right = true},
                                       {.text = "UNTIL"}}};
  for (const v1::Reservation& each : reservations) {
    const auto& until = each.has_lease_until() ? each.lease_until() : each.deadline();
    rows.push_back({{.text = each.id()},
                    {.text = short_name(*v1::ReservationState_descriptor()->FindValueByNumber(each.state()))},
                    size(each.min_bytes()),
                    size(each.max_bytes()),
                    size(each.granted_bytes()),
                    {.text = fmt::format("{}", each.priority()), .right = true},
                    {.text = format_time(until.seconds(), until.nanos())}});
  }
  return lay_out(rows, {});
}

std::string host_details(const v1::Host& host) {
  return details({
      {"State", short_name(*v1::HostState_descriptor()->FindValueByNumber(host.state()))},
      {"Total", format_bytes(host.total_bytes())},
      {"Free", format_bytes(host.free_bytes())},
      {"Available", format_bytes(host.available_bytes())},
      {"Swap", fmt::format("{} free of {}", format_bytes(host.swap_free_bytes()),
                           format_bytes(host.swap_total_bytes()))},
      {"Swapped in", format_bytes(host.swap_in_bytes())},
      {"Swapped out", format_bytes(host.swap_out_bytes())},
      {"Pressure", fmt::format("{:.1f} % some, {:.1f} % full (of the last 10 s)",
                               host.pressure_some_ratio() * 100, host.pressure_full_ratio() * 100)},
      {"KSM", ksm_of(host)},
      {"KSM saves", format_bytes(host.ksm_saved_bytes())},
      {"Reserve", format_bytes(host.reserve_bytes())},
      {"Budget", fmt::format("{} for all guests", format_bytes(host.budget_bytes()))},
      {"Committed", fmt::format("{} to guests now", format_bytes(host.committed_bytes()))},
      {"Reserved", fmt::format("{} for guests to be", format_bytes(host.reserved_bytes()))},
      {"Configured", fmt::format("{} of boot memory", format_bytes(host.configured_bytes()))},
  });
}

std::string host_line(const v1::Host& host) {
  return fmt::format(
      "host {}: {} available of {}, committed {} of {}, pressure {:.1f} %, swap used {}",
      short_name(*v1::HostState_descriptor()->FindValueByNumber(host.state())),
      format_bytes(host.available_bytes()), format_bytes(host.total_bytes()),
      format_bytes(host.committed_bytes()), format_bytes(host.budget_bytes()),
      host.pressure_some_ratio() * 100,
      format_bytes(host.swap_total_bytes() - std::min(host.swap_total_bytes(), host.swap_free_bytes())));
}

std::string explanation(const v1::Guest& guest) {
  return guest.has_decision() ? guest.decision().explanation() + '\n'
                              : "nothing has been decided for it yet\n";
}

}  // namespace balloon::ctl
