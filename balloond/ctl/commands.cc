// SPDX-License-Identifier: Apache-2.0
#include "balloond/ctl/commands.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "balloond/ctl/host_check.h"
#include "balloond/ctl/json.h"
#include "balloond/ctl/tables.h"
#include "base/bytes.h"

namespace balloon::ctl {
namespace {

using std::chrono::nanoseconds;

void set_duration(google::protobuf::Duration& out, nanoseconds duration) {
  out.set_seconds(duration.count() / 1'000'000'000);
  out.set_nanos(static_cast<std::int32_t>(duration.count() % 1'000'000'000));
}

Output output_of(const Arguments& arguments) {
  const Format format = format_of(arguments.output);
  return {format,
          {.terminal = Terminal::of_output(),
           .headings = !arguments.no_headings,
           .wide = format == Format::wide}};
}

std::string until(const google::protobuf::Timestamp& time) {
  return format_time(time.seconds(), time.nanos());
}

/// Of a text that the command line has checked.
std::uint64_t size_of(const std::string& text) { return parse_bytes(text).value_or(Bytes{}).count(); }

/// Why a pin that was taken does not show yet; nothing when it will.
std::string pin_hint(const v1::Guest& guest) {
  if (!guest.obstacle().empty())
    return fmt::format("its balloon is left alone for now: {}", guest.obstacle());
  if (guest.state() == v1::GUEST_STATE_BOOTING)
    return "its balloon driver is not up yet: its size changes once it is";
  if (guest.state() == v1::GUEST_STATE_STUCK)
    return "its balloon makes no progress: its size may stay what it is";
  return "";
}

}  // namespace

Commands::Commands(const Arguments& arguments)
    : arguments_(arguments),
      output_(output_of(arguments)),
      client_(arguments.socket, parse_duration(arguments.timeout).value_or(std::chrono::seconds(5))) {}

int Commands::fail_with(const CallError& error) {
  output_.complain(error);
  return static_cast<int>(error.code);
}

template <typename Text>
int Commands::print_guest(const Answer<v1::Guest>& guest, const Text& text) {
  if (!guest) return fail_with(guest.error());
  output_.answer(json_of(*guest), [&] { return text(*guest); });
  return 0;
}

int Commands::list() {
  auto response = client_.list();
  if (!response) return fail_with(response.error());
  sort_by_name(*response->mutable_guests());
  output_.answer(json_of(*response), [&] { return guest_table(response->guests(), output_.look()); });
  return 0;
}

int Commands::show() {
  return print_guest(client_.get(arguments_.guest), [this](const v1::Guest& guest) {
    return guest_details(guest, output_.look().terminal);
  });
}

int Commands::explain() {
  return print_guest(client_.get(arguments_.guest),
                     [this](const v1::Guest& guest) { return explanation(guest, output_.look().terminal); });
}

int Commands::needs() {
  auto response = client_.needs(arguments_.guest);
  if (!response) return fail_with(response.error());
  sort_by_name(*response->mutable_guests());
  output_.answer(json_of(*response), [&] {
    return arguments_.guest.empty() ? needs_table(response->guests(), output_.look())
                                    : days_table(response->guests(0), output_.look());
  });
  return 0;
}

int Commands::host() {
  const auto host = client_.host();
  if (!host) return fail_with(host.error());
  output_.answer(json_of(*host), [&] { return host_details(*host, output_.look().terminal); });
  return 0;
}

int Commands::host_check() {
  HostView view = HostView::real();
  if (!arguments_.interface.empty()) view.interface = arguments_.interface;
  const auto checks = check_host(view);
  output_.answer(json_of(checks), [&] { return check_table(checks, output_.look().terminal); });
  return has_problem(checks) ? static_cast<int>(Exit::failure) : 0;
}

int Commands::watch() {
  std::uint64_t shown = 0;
  const Terminal terminal = output_.look().terminal;
  const auto ended = client_.watch([&](v1::WatchGuestsResponse& state) {
    sort_by_name(*state.mutable_guests());
    if (format_of(arguments_.output) == Format::yaml && shown > 0) output_.print("---\n");
    output_.answer(json_of(state), [&] {
      const char* const before = terminal.columns != 0 ? "\033[H\033[2J" : shown == 0 ? "" : "\n";
      return before + watch_screen(state, output_.look());
    });
    ++shown;
    return !output_.failed() && (arguments_.count == 0 || shown < arguments_.count);
  });
  return ended ? 0 : fail_with(ended.error());
}

int Commands::top() {
  const Terminal terminal = output_.look().terminal;
  if (arguments_.top.once) {
    const auto screen = top::once(client_, arguments_.top, terminal);
    if (!screen) return fail_with(screen.error());
    output_.print(*screen);
    return 0;
  }
  if (terminal.columns == 0)
    return fail_with({Exit::usage, "top needs a terminal; --once prints one screen anywhere"});
  const auto ended = top::follow(client_, arguments_.top, terminal);
  return ended ? 0 : fail_with(ended.error());
}

int Commands::set() {
  if (arguments_.size == "auto") {
    if (!arguments_.duration.empty())
      return fail_with({Exit::usage, "--for goes with a size: auto ends the pin at once"});
    return print_guest(client_.clear(arguments_.guest), [](const v1::Guest& guest) {
      return guest.name() + " is controlled automatically\n";
    });
  }
  const auto size = parse_bytes(arguments_.size);
  if (!size) return fail_with({Exit::usage, size.error().message});
  const auto duration = arguments_.duration.empty() ? std::nullopt : parse_duration(arguments_.duration);
  return print_guest(client_.set(arguments_.guest, *size, duration), [&](const v1::Guest& guest) {
    const std::string hint = pin_hint(guest);
    return fmt::format("{} is pinned at {} until {}\n{}{}", guest.name(), format_bytes(*size),
                       until(guest.pinned_until()), hint, hint.empty() ? "" : "\n");
  });
}

int Commands::merge() {
  return print_guest(client_.merge(arguments_.guest, arguments_.merging == "on"),
                     [&](const v1::Guest& guest) {
                       return "the VMM of " + guest.name() + " is asked to turn KSM " + arguments_.merging +
                              "; show has what became of it\n";
                     });
}

int Commands::pause() {
  const auto duration = arguments_.duration.empty() ? std::nullopt : parse_duration(arguments_.duration);
  const auto paused = client_.pause(duration);
  if (!paused) return fail_with(paused.error());
  output_.answer(json_of(*paused), [&] {
    return fmt::format("balloons stay as they are: {}; balloonctl resume ends it\n", paused->not_applied());
  });
  return 0;
}

int Commands::resume() {
  const auto resumed = client_.resume();
  if (!resumed) return fail_with(resumed.error());
  output_.answer(json_of(*resumed), [&] {
    return resumed->not_applied().empty()
               ? std::string("decisions are applied\n")
               : fmt::format("balloons still stay as they are: {}\n", resumed->not_applied());
  });
  return 0;
}

int Commands::reserve() {
  v1::ReserveRequest request;
  request.set_id(arguments_.id);
  request.set_min_bytes(size_of(arguments_.size));
  if (!arguments_.max.empty()) request.set_max_bytes(size_of(arguments_.max));
  request.set_priority(arguments_.priority);
  const auto within = parse_duration(arguments_.within).value_or(std::chrono::minutes(1));
  set_duration(*request.mutable_within(), within);
  if (const auto lease = parse_duration(arguments_.lease)) set_duration(*request.mutable_lease(), *lease);
  request.set_request_id(arguments_.request_id);
  request.set_owner(arguments_.owner);
  request.set_detached(arguments_.detach);
  return print_reservation(client_.reserve(request, within));
}

int Commands::print_reservation(const Answer<v1::Reservation>& reservation) {
  if (!reservation) return fail_with(reservation.error());
  output_.answer(json_of(*reservation), [&] { return reservation_line(*reservation); });
  return 0;
}

template <typename Request>
Request Commands::renewal() const {
  Request request;
  request.set_id(arguments_.id);
  request.set_token(arguments_.token);
  request.set_force(arguments_.force);
  if (const auto lease = parse_duration(arguments_.lease)) set_duration(*request.mutable_lease(), *lease);
  return request;
}

int Commands::extend() { return print_reservation(client_.extend(renewal<v1::ExtendReservationRequest>())); }
int Commands::commit() { return print_reservation(client_.commit(renewal<v1::CommitReservationRequest>())); }
int Commands::reservation() { return print_reservation(client_.reservation(arguments_.id)); }

int Commands::release() {
  const auto released = client_.release(arguments_.id, arguments_.token, arguments_.force);
  if (!released) return fail_with(released.error());
  output_.answer({{"released", arguments_.id}}, [] { return std::string(); });
  return 0;
}

int Commands::reservations() {
  const auto response = client_.reservations();
  if (!response) return fail_with(response.error());
  output_.answer(json_of(*response),
                 [&] { return reservation_table(response->reservations(), output_.look()); });
  return 0;
}

int Commands::capacity() {
  const auto capacity = client_.capacity();
  if (!capacity) return fail_with(capacity.error());
  output_.answer(json_of(*capacity), [&] { return capacity_details(*capacity, output_.look().terminal); });
  return 0;
}

int Commands::fit() {
  v1::CheckFitRequest request;
  for (const std::string& size : arguments_.sizes) {
    v1::FitQuery& query = *request.add_queries();
    query.set_min_bytes(size_of(size));
    query.set_priority(arguments_.priority);
    set_duration(*query.mutable_within(),
                 parse_duration(arguments_.within).value_or(std::chrono::minutes(1)));
  }
  const auto response = client_.fit(request);
  if (!response) return fail_with(response.error());
  output_.answer(json_of(*response), [&] { return fit_table(request, *response, output_.look()); });
  const bool all_fit = std::ranges::none_of(
      response->answers(), [](const v1::FitAnswer& answer) { return answer.fit() == v1::FIT_NO; });
  return all_fit ? 0 : static_cast<int>(Exit::refused);
}

int Commands::replay() {
  policy::sim::ReplayArguments replay = arguments_.replay;
  replay.output = arguments_.output;
  return policy::sim::run_replay(replay, "balloonctl");
}

int Commands::check_policy() { return print_policy(policy_check(arguments_.policy)); }
int Commands::show_policy() { return print_policy(policy_show(arguments_.policy, output_.look())); }
int Commands::diff_policies() {
  return print_policy(policy_diff(arguments_.policy, client_, output_.look()));
}

int Commands::import_libvirt() { return print_policy(ctl::import_libvirt(arguments_.import)); }
int Commands::import_proxmox() { return print_policy(ctl::import_proxmox(arguments_.import)); }

int Commands::print_policy(const Printed& printed) {
  const bool answered = !printed.json.is_null();
  if (answered) output_.answer(printed.json, [&] { return printed.text; });
  if (!answered && !printed.text.empty()) output_.print(printed.text);
  if (printed.complaint.empty()) return static_cast<int>(printed.code);
  // Complaints about a file begin with its name, as compilers' do, not with the program's.
  if (!output_.for_programs()) {
    fmt::print(stderr, "{}\n", printed.complaint);
  } else if (!answered) {
    output_.complain({printed.code, printed.complaint});
  }
  return static_cast<int>(printed.code);
}

}  // namespace balloon::ctl
