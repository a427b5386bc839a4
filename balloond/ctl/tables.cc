// SPDX-License-Identifier: Apache-2.0
#include "balloond/ctl/tables.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "balloond/ctl/json.h"
#include "base/bytes.h"

namespace balloon::ctl {
namespace {

constexpr const char* kGreen = "\033[32m";
constexpr const char* kCyan = "\033[36m";
constexpr const char* kYellow = "\033[33m";
constexpr const char* kRed = "\033[31m";

Cell size(std::uint64_t bytes) { return {.text = format_size(bytes)}; }
Cell size_or_dash(bool has, std::uint64_t bytes) { return has ? size(bytes) : Cell{.text = "-"}; }

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
                     format_size(contest.from_bytes()), format_size(contest.to_bytes()));
}

std::string merging_of(const v1::Guest& guest) {
  std::string is = !guest.has_merging() ? "its VMM does not say" : guest.merging() ? "on" : "off";
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
  if (words.empty()) return "-";
  return fmt::format("{} (steps of {})", fmt::join(words, ", "), format_size(can.granularity_bytes()));
}

std::string ksm_of(const v1::Host& host) {
  if (!host.has_ksm()) return "none";
  const v1::Ksm& ksm = host.ksm();
  const std::string by = ksm.controllable() ? "run by balloond" : "not run by balloond";
  if (!ksm.running()) return "off, " + by;
  const auto millis = ksm.sleep().seconds() * 1000 + ksm.sleep().nanos() / 1'000'000;
  return fmt::format("on, {}: {} pages every {} ms", by, ksm.pages_to_scan(), millis);
}

template <typename All>
void sort_all_by_name(All& all) {
  std::ranges::sort(all.pointer_begin(), all.pointer_end(), [](const auto* a, const auto* b) {
    return ::strverscmp(a->name().c_str(), b->name().c_str()) < 0;
  });
}

/// Lines of text that have no room are told about, not shown.
std::string first_lines(const std::string& text, std::size_t most, std::size_t& left_out) {
  std::size_t end = 0;
  for (std::size_t line = 0; line < most && end < text.size(); ++line) end = text.find('\n', end) + 1;
  left_out = static_cast<std::size_t>(std::ranges::count(text.substr(end), '\n'));
  return text.substr(0, end);
}

}  // namespace

std::string format_size(std::uint64_t bytes) { return format_bytes(Bytes{bytes}); }

void sort_by_name(Guests& guests) { sort_all_by_name(guests); }
void sort_by_name(Needs& guests) { sort_all_by_name(guests); }

std::string state_of(const v1::Guest& guest) {
  return short_name(*v1::GuestState_descriptor(), guest.state());
}

const char* colour_of(const v1::Guest& guest) {
  switch (guest.state()) {
    case v1::GUEST_STATE_CONTROLLED:
      return kGreen;
    case v1::GUEST_STATE_PINNED:
    case v1::GUEST_STATE_BOOTING:
      return kCyan;
    case v1::GUEST_STATE_STALE:
    case v1::GUEST_STATE_STUCK:
    case v1::GUEST_STATE_BLIND:
    case v1::GUEST_STATE_PAUSED:
    case v1::GUEST_STATE_LEFT_ALONE:
    case v1::GUEST_STATE_CONTESTED:
      return kYellow;
    case v1::GUEST_STATE_DISCONNECTED:
      return kRed;
    default:
      return nullptr;
  }
}

std::string state_of(const v1::Host& host) { return short_name(*v1::HostState_descriptor(), host.state()); }

const char* colour_of(const v1::Host& host) {
  switch (host.state()) {
    case v1::HOST_STATE_NORMAL:
      return kGreen;
    case v1::HOST_STATE_TIGHT:
      return kYellow;
    case v1::HOST_STATE_INFEASIBLE:
    case v1::HOST_STATE_CRITICAL:
    case v1::HOST_STATE_EMERGENCY:
      return kRed;
    default:
      return nullptr;
  }
}

std::string reason_of(const v1::Guest& guest) {
  if (!guest.has_decision()) return "-";
  return short_name(*v1::Reason_descriptor(), guest.decision().reason());
}

bool knows_available(const v1::Guest& guest) {
  return guest.decision().has_used_bytes() && guest.stats().has_available_bytes();
}

std::string guest_table(const Guests& guests, const Look& look) {
  std::vector<Column> columns{{.name = "GUEST", .shorten = true},
                              {.name = "STATE"},
                              {.name = "MEMORY", .right = true, .rank = 2},
                              {.name = "USED", .right = true},
                              {.name = "AVAILABLE", .right = true, .rank = 3},
                              {.name = "TARGET", .right = true},
                              {.name = "ACTUAL", .right = true},
                              {.name = "RESIDENT", .right = true, .rank = 4},
                              {.name = "REASON", .rank = 1}};
  if (look.wide) {
    for (const char* const name : {"MIN", "MAX", "WEIGHT", "NEED", "SHARE", "SWAPPED"})
      columns.push_back({.name = name, .right = true});
    for (const char* const name : {"HYPERVISOR", "PID", "LABELS"}) columns.push_back({.name = name});
  }
  std::vector<std::vector<Cell>> rows;
  for (const v1::Guest& guest : guests) {
    auto& row = rows.emplace_back(
        std::vector<Cell>{{.text = guest.name()},
                          {.text = state_of(guest), .colour = colour_of(guest)},
                          size(guest.memory_bytes()),
                          size_or_dash(guest.decision().has_used_bytes(), guest.decision().used_bytes()),
                          size_or_dash(knows_available(guest), guest.stats().available_bytes()),
                          size(guest.target_bytes()),
                          size(guest.actual_bytes()),
                          size(guest.resident_bytes()),
                          {.text = reason_of(guest)}});
    if (!look.wide) continue;
    row.insert(row.end(), {size(guest.min_bytes()),
                           size(guest.max_bytes()),
                           {.text = fmt::format("{}", guest.weight())},
                           size_or_dash(guest.decision().has_need_bytes(), guest.decision().need_bytes()),
                           size_or_dash(guest.has_decision(), guest.decision().share_bytes()),
                           size(guest.swapped_bytes()),
                           {.text = guest.hypervisor()},
                           {.text = fmt::format("{}", guest.pid())},
                           {.text = labels_of(guest)}});
  }
  return lay_out(std::move(columns), std::move(rows), look);
}

std::string guest_details(const v1::Guest& guest, const Terminal& terminal) {
  const v1::GuestStats& stats = guest.stats();
  const auto stat = [](bool has, std::uint64_t bytes) { return has ? format_size(bytes) : std::string("-"); };
  const auto count = [](bool has, std::uint64_t value) {
    return has ? fmt::format("{}", value) : std::string("-");
  };
  return lay_out_values(
      {{"Guest", guest.name()},
       {"Labels", labels_of(guest)},
       {"State", state_of(guest)},
       {"Paused", guest.paused() ? "yes, by its monitor" : "no"},
       {"Left alone", left_alone(guest)},
       {"Process", fmt::format("{} ({})", guest.pid(), guest.hypervisor())},
       {"Its VMM gives", capabilities_of(guest.capabilities())},
       {"Memory", format_size(guest.memory_bytes())},
       {"Limits", fmt::format("{} to {}, weight {}", format_size(guest.min_bytes()),
                              format_size(guest.max_bytes()), guest.weight())},
       {"Target", format_size(guest.target_bytes())},
       {"Actual", format_size(guest.actual_bytes())},
       {"Resident", fmt::format("{} (and {} in host swap)", format_size(guest.resident_bytes()),
                                format_size(guest.swapped_bytes()))},
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
       {"Used", stat(guest.decision().has_used_bytes(), guest.decision().used_bytes())},
       {"Need", stat(guest.decision().has_need_bytes(), guest.decision().need_bytes())},
       {"Share", format_size(guest.decision().share_bytes())},
       {"Reason", reason_of(guest)}},
      terminal);
}

std::string reservation_table(const google::protobuf::RepeatedPtrField<v1::Reservation>& reservations,
                              const Look& look) {
  std::vector<std::vector<Cell>> rows;
  for (const v1::Reservation& each : reservations) {
    const auto& until = each.has_lease_until() ? each.lease_until() : each.deadline();
    const bool granted = each.has_lease_until();
    rows.push_back({{.text = each.id()},
                    {.text = short_name(*v1::ReservationState_descriptor(), each.state()),
                     .colour = granted ? kGreen : kCyan},
                    size(each.min_bytes()),
                    size(each.max_bytes()),
                    size(each.granted_bytes()),
                    {.text = fmt::format("{}", each.priority())},
                    {.text = each.owner()},
                    {.text = format_time(until.seconds(), until.nanos())}});
  }
  return lay_out({{.name = "RESERVATION", .shorten = true},
                  {.name = "STATE"},
                  {.name = "MIN", .right = true},
                  {.name = "MAX", .right = true, .rank = 1},
                  {.name = "KEPT", .right = true},
                  {.name = "PRIORITY", .right = true, .rank = 2},
                  {.name = "OWNER", .rank = 3},
                  {.name = "UNTIL"}},
                 std::move(rows), look);
}

std::string reservation_line(const v1::Reservation& reservation) {
  const std::string kept = format_size(reservation.granted_bytes());
  std::string line;
  switch (reservation.state()) {
    case v1::RESERVATION_STATE_GRANTED:
    case v1::RESERVATION_STATE_COMMITTED:
      line = fmt::format(
          "{} are kept for {} until {}{}\n", kept, reservation.id(),
          format_time(reservation.lease_until().seconds(), reservation.lease_until().nanos()),
          reservation.state() == v1::RESERVATION_STATE_COMMITTED ? ": its guest is being started" : "");
      break;
    case v1::RESERVATION_STATE_PENDING:
      line = fmt::format("{} of {} are kept for {} so far\n", kept, format_size(reservation.min_bytes()),
                         reservation.id());
      break;
    default:
      line = fmt::format("{} is {}: {}\n", reservation.id(),
                         short_name(*v1::ReservationState_descriptor(), reservation.state()),
                         reservation.reason());
  }
  if (!reservation.token().empty())
    line += fmt::format("token: {} (extend, commit and release take it)\n", reservation.token());
  return line;
}

std::string capacity_details(const v1::Capacity& capacity, const Terminal& terminal) {
  v1::Host as_host;
  as_host.set_state(capacity.state());
  return lay_out_values(
      {{"Host", fmt::format("{} ({})", capacity.host_name(), capacity.host_id())},
       {"Generation",
        fmt::format("{} of {}", capacity.generation().revision(), capacity.generation().epoch())},
       {"State", state_of(as_host)},
       {"Control", capacity.not_applied().empty() ? "on" : "nothing is applied: " + capacity.not_applied()},
       {"Total", format_size(capacity.total_bytes())},
       {"Reserve", format_size(capacity.reserve_bytes())},
       {"Budget", fmt::format("{} for all guests", format_size(capacity.budget_bytes()))},
       {"Committed",
        fmt::format("{} to {} guests", format_size(capacity.committed_bytes()), capacity.guests())},
       {"Reserved", fmt::format("{} for {} guests to be", format_size(capacity.reserved_bytes()),
                                capacity.reservations())},
       {"Floors", fmt::format("{} guaranteed to guests", format_size(capacity.floor_bytes()))},
       {"Free now", format_size(capacity.free_bytes())},
       {"Reclaimable", fmt::format("{} in 5 s, {} in 30 s", format_size(capacity.reclaimable_5s_bytes()),
                                   format_size(capacity.reclaimable_30s_bytes()))},
       {"Largest",
        fmt::format("{} for a reservation, however long it takes", format_size(capacity.largest_bytes()))},
       {"Boot memory", capacity.has_boot_memory_free_bytes()
                           ? format_size(capacity.boot_memory_free_bytes()) + " left of what policy admits"
                           : "not counted (admission.ram_allocation_ratio)"},
       {"Pressure", fmt::format("{:.1f} % some, {:.1f} % full (of the last 10 s)",
                                capacity.pressure_some_ratio() * 100, capacity.pressure_full_ratio() * 100)}},
      terminal);
}

std::string fit_table(const v1::CheckFitRequest& asked, const v1::CheckFitResponse& response,
                      const Look& look) {
  constexpr int kNamed = 3;
  std::vector<std::vector<Cell>> rows;
  for (int i = 0; i < response.answers_size(); ++i) {
    const v1::FitAnswer& answer = response.answers(i);
    const auto& ready = answer.ready_in();
    std::vector<std::string> names;
    for (int n = 0; n < std::min(kNamed, answer.squeezed_size()); ++n)
      names.push_back(answer.squeezed(n).name());
    if (answer.squeezed_guests() > names.size())
      names.push_back(fmt::format("{} more", answer.squeezed_guests() - names.size()));
    rows.push_back(
        {size(asked.queries(i).min_bytes()),
         {.text = short_name(*v1::Fit_descriptor(), answer.fit()),
          .colour = answer.fit() == v1::FIT_NO    ? kRed
                    : answer.fit() == v1::FIT_NOW ? kGreen
                                                  : kCyan},
         {.text = answer.has_ready_in()
                      ? fmt::format("{:.1f} s", static_cast<double>(ready.seconds()) + ready.nanos() / 1e9)
                      : "-"},
         {.text = names.empty() ? "-" : fmt::format("{}", fmt::join(names, ", "))},
         {.text = answer.reason()}});
  }
  return lay_out({{.name = "SIZE", .right = true},
                  {.name = "FIT"},
                  {.name = "READY IN", .right = true},
                  {.name = "SQUEEZED", .shorten = true},
                  {.name = "WHY", .rank = 1}},
                 std::move(rows), look);
}

namespace {

std::string available_of(const v1::Host& host) {
  std::string available = format_size(host.available_bytes());
  if (host.arc_bytes() == 0) return available;
  return fmt::format("{}, and {} of ZFS' cache", available, format_size(host.arc_bytes()));
}

}  // namespace

std::string host_details(const v1::Host& host, const Terminal& terminal) {
  return lay_out_values(
      {{"State", state_of(host)},
       {"Why", host.explanation().empty() ? "-" : host.explanation()},
       {"Control", host.not_applied().empty() ? "on" : "nothing is applied: " + host.not_applied()},
       {"Total", format_size(host.total_bytes())},
       {"Free", format_size(host.free_bytes())},
       {"Available", available_of(host)},
       {"Swap", fmt::format("{} free of {}", format_size(host.swap_free_bytes()),
                            format_size(host.swap_total_bytes()))},
       {"Swapped in", format_size(host.swap_in_bytes())},
       {"Swapped out", format_size(host.swap_out_bytes())},
       {"Pressure", fmt::format("{:.1f} % some, {:.1f} % full (of the last 10 s)",
                                host.pressure_some_ratio() * 100, host.pressure_full_ratio() * 100)},
       {"KSM", ksm_of(host)},
       {"KSM saves", format_size(host.ksm_saved_bytes())},
       {"Reserve", format_size(host.reserve_bytes())},
       {"Budget", fmt::format("{} for all guests", format_size(host.budget_bytes()))},
       {"Committed", fmt::format("{} to guests now", format_size(host.committed_bytes()))},
       {"Reserved", fmt::format("{} for guests to be", format_size(host.reserved_bytes()))},
       {"Configured", fmt::format("{} of boot memory", format_size(host.configured_bytes()))}},
      terminal);
}

std::string explanation(const v1::Guest& guest, const Terminal& terminal) {
  const std::string text =
      guest.has_decision() ? guest.decision().explanation() : "nothing has been decided for it yet";
  return wrap(text, terminal.columns) + '\n';
}

std::string watch_screen(const v1::WatchGuestsResponse& state, const Look& look) {
  const v1::Host& host = state.host();
  const std::string line = fmt::format(
      "host {}: {} available of {}, committed {} of {}, pressure {:.1f} %, swap used {}", state_of(host),
      format_size(host.available_bytes()), format_size(host.total_bytes()),
      format_size(host.committed_bytes()), format_size(host.budget_bytes()), host.pressure_some_ratio() * 100,
      format_size(host.swap_total_bytes() - std::min(host.swap_total_bytes(), host.swap_free_bytes())));
  const std::string control =
      host.not_applied().empty() ? "" : fmt::format("nothing is applied: {}\n", host.not_applied());
  const std::string head = wrap(line, look.terminal.columns) + '\n' + control;
  Look once = look;
  once.terminal.rows = 0;  // the heading once: the screen ends before it would be repeated
  const std::string table = guest_table(state.guests(), once);
  const auto head_lines = static_cast<std::size_t>(std::ranges::count(head, '\n'));
  // The last row of the screen is the cursor's.
  if (look.terminal.rows <= head_lines + 3) return head + table;
  const std::size_t room = look.terminal.rows - head_lines - 1;
  std::size_t left_out = 0;
  if (static_cast<std::size_t>(std::ranges::count(table, '\n')) <= room) return head + table;
  const std::string shown = first_lines(table, room - 1, left_out);
  return head + shown + fmt::format("and {} more: balloonctl list has them all\n", left_out);
}

}  // namespace balloon::ctl
