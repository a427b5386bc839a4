// balloonctl: what a person types.
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>

#include "balloond/ctl/client.h"
#include "balloond/ctl/host_check.h"
#include "balloond/ctl/import.h"
#include "balloond/ctl/json.h"
#include "balloond/ctl/policy.h"
#include "balloond/ctl/tables.h"
#include "base/bytes.h"
#include "policy/sim/replay_command.h"

namespace balloon::ctl {
namespace {

using std::chrono::nanoseconds;

constexpr auto kFooter =
    "Sizes are written like 512MiB or 2GiB, durations like 30s, 10m or 1h. JSON has bytes as numbers.\n"
    "Exit codes: 0 ok, 1 failure, 2 usage, 3 no such guest or reservation, 4 refused by the daemon,\n"
    "5 daemon not reachable.\n"
    "policy check and show: 0 good, 1 bad; policy diff: 0 the same, 1 different or bad.\n"
    "replay: 0 ok, 1 unreadable, 3 the plans are not those that were recorded.\n"
    "Environment: BALLOOND_SOCKET is the default of --socket; NO_COLOR turns colours off.";

struct Arguments {
  std::string socket = "/run/balloond/balloond.sock";
  std::string output = "table";
  std::string timeout = "5s";
  std::string guest;
  std::string size;
  std::string merging;
  std::string duration;
  std::string id;
  std::string max;
  std::string within = "1m";
  std::string lease;
  std::uint32_t priority = 100;
  PolicyArguments policy;
  ImportArguments import;
  policy::sim::ReplayArguments replay;
  std::string interface;
  std::uint64_t count = 0;  ///< states that a watch shows; 0: until it is stopped
};

/// "500ms", "30s", "10m", "1h".
std::optional<nanoseconds> parse_duration(const std::string& text) {
  double number = 0;
  const char* const last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, number, std::chars_format::fixed);
  const std::string unit(end, last);
  const double scale = unit == "ms" ? 1e6 : unit == "s" ? 1e9 : unit == "m" ? 60e9 : unit == "h" ? 3600e9 : 0;
  if (error != std::errc{} || scale == 0 || !(number > 0) || number * scale > 9e18) return std::nullopt;
  return nanoseconds(static_cast<std::int64_t>(number * scale));
}

void set_duration(google::protobuf::Duration& out, nanoseconds duration) {
  out.set_seconds(duration.count() / 1'000'000'000);
  out.set_nanos(static_cast<std::int32_t>(duration.count() % 1'000'000'000));
}

CLI::Validator duration_validator() {
  return {[](std::string& text) {
            return parse_duration(text) ? std::string()
                                        : "'" + text + "' is not a duration such as 30s, 10m or 1h";
          },
          "DURATION"};
}

CLI::Validator memory_validator() {
  return {[](std::string& text) {
            const auto size = parse_bytes(text);
            if (!size) return size.error().message;
            return *size == 0 ? std::string("it must be more than 0") : std::string();
          },
          "SIZE"};
}

CLI::Validator size_validator() {
  return {[](std::string& text) {
            if (text == "auto") return std::string();
            const auto size = parse_bytes(text);
            return size ? std::string() : size.error().message;
          },
          "SIZE|auto"};
}

int fail_with(const CallError& error) {
  std::fprintf(stderr, "balloonctl: %s\n", error.message.c_str());
  return static_cast<int>(error.code);
}

void print(const std::string& text) {
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
}

class Commands {
 public:
  explicit Commands(const Arguments& arguments)
      : arguments_(arguments),
        json_(arguments.output == "json"),
        client_(arguments.socket, parse_duration(arguments.timeout).value_or(std::chrono::seconds(5))) {
    const char* const no_color = std::getenv("NO_COLOR");  // https://no-color.org: present and not empty
    style_.colour = ::isatty(STDOUT_FILENO) != 0 && (no_color == nullptr || *no_color == '\0');
  }

  int list() {
    const auto response = client_.list();
    if (!response) return fail_with(response.error());
    print(json_ ? to_json(*response) + '\n' : guest_table(response->guests(), style_));
    return 0;
  }

  int show() { return print_guest(client_.get(arguments_.guest), guest_details); }

  int explain() { return print_guest(client_.get(arguments_.guest), explanation); }

  int host() {
    const auto host = client_.host();
    if (!host) return fail_with(host.error());
    print(json_ ? to_json(*host) + '\n' : host_details(*host));
    return 0;
  }

  int host_check() {
    HostView view = HostView::real();
    if (!arguments_.interface.empty()) view.interface = arguments_.interface;
    const auto checks = check_host(view);
    print(json_ ? check_json(checks) + '\n' : check_table(checks));
    return has_problem(checks) ? static_cast<int>(Exit::failure) : 0;
  }

  int set() {
    if (arguments_.size == "auto") {
      return print_guest(client_.clear(arguments_.guest), [](const v1::Guest& guest) {
        return guest.name() + " is controlled automatically\n";
      });
    }
    const auto size = parse_bytes(arguments_.size);
    if (!size) return fail_with({Exit::usage, size.error().message});
    const auto duration = arguments_.duration.empty() ? std::nullopt : parse_duration(arguments_.duration);
    return print_guest(client_.set(arguments_.guest, *size, duration), [&](const v1::Guest& guest) {
      return guest.name() + " is pinned at " + format_bytes(*size) + " until " +
             format_time(guest.pinned_until().seconds(), guest.pinned_until().nanos()) + '\n';
    });
  }

  int merge() {
    return print_guest(client_.merge(arguments_.guest, arguments_.merging == "on"),
                       [&](const v1::Guest& guest) {
                         return "the VMM of " + guest.name() + " is asked to turn KSM " + arguments_.merging +
                                "; show has what became of it\n";
                       });
  }

  int reserve() {
    v1::ReserveRequest request;
    request.set_id(arguments_.id);
    const auto min = parse_bytes(arguments_.size);
    if (!min) return fail_with({Exit::usage, min.error().message});
    request.set_min_bytes(*min);
    if (!arguments_.max.empty()) request.set_max_bytes(parse_bytes(arguments_.max).value_or(0));
    request.set_priority(arguments_.priority);
    const auto within = parse_duration(arguments_.within).value_or(std::chrono::minutes(1));
    set_duration(*request.mutable_within(), within);
    if (const auto lease = parse_duration(arguments_.lease)) set_duration(*request.mutable_lease(), *lease);
    const auto granted = client_.reserve(request, within);
    if (!granted) return fail_with(granted.error());
    print(json_ ? to_json(*granted) + '\n'
                : format_bytes(granted->granted_bytes()) + " are kept for " + granted->id() + " until " +
                      format_time(granted->lease_until().seconds(), granted->lease_until().nanos()) + '\n');
    return 0;
  }

  int release() {
    const auto released = client_.release(arguments_.id);
    return released ? 0 : fail_with(released.error());
  }

  int reservations() {
    const auto response = client_.reservations();
    if (!response) return fail_with(response.error());
    print(json_ ? to_json(*response) + '\n' : reservation_table(response->reservations()));
    return 0;
  }

  int watch() {
    std::uint64_t shown = 0;
    const bool terminal = ::isatty(STDOUT_FILENO) != 0;
    const auto ended = client_.watch([&](const v1::WatchGuestsResponse& state) {
      if (json_) {
        print(to_json(state) + '\n');
      } else {
        const char* const before = terminal ? "\033[H\033[2J" : shown == 0 ? "" : "\n";
        print(before + host_line(state.host()) + '\n' + guest_table(state.guests(), style_));
      }
      ++shown;
      return arguments_.count == 0 || shown < arguments_.count;
    });
    return ended ? 0 : fail_with(ended.error());
  }

  int replay() {
    policy::sim::ReplayArguments replay = arguments_.replay;
    replay.output = arguments_.output;
    return policy::sim::run_replay(replay, "balloonctl");
  }

  int check_policy() { return finish(policy_check(policy())); }
  int show_policy() { return finish(policy_show(policy())); }
  int import_libvirt() { return finish(ctl::import_libvirt(arguments_.import)); }
  int import_proxmox() { return finish(ctl::import_proxmox(arguments_.import)); }
  int diff_policies() { return finish(policy_diff(policy(), client_)); }

 private:
  PolicyArguments policy() const {
    PolicyArguments policy = arguments_.policy;
    policy.json = json_;
    return policy;
  }

  static int finish(const Printed& printed) {
    print(printed.out);
    std::fputs(printed.err.c_str(), stderr);
    return static_cast<int>(printed.code);
  }

  template <typename Text>
  int print_guest(const Answer<v1::Guest>& guest, const Text& text) {
    if (!guest) return fail_with(guest.error());
    print(json_ ? to_json(*guest) + '\n' : text(*guest));
    return 0;
  }

  const Arguments& arguments_;
  const bool json_;
  Client client_;
  Style style_;
};

CLI::Validator validator(const char* name, bool (*good)(const std::string&), const char* expected) {
  return {[good, expected](std::string& text) {
            return good(text) ? std::string() : "'" + text + "' is not " + expected;
          },
          name};
}

void add_policy_commands(CLI::App& app, PolicyArguments& arguments,
                         const std::function<void(int (Commands::*)())>& choose) {
  CLI::App* const policy = app.add_subcommand("policy", "Judges policy files");
  policy->require_subcommand(1);
  policy->fallthrough();
  const auto memory = memory_validator();
  const auto add = [&](const char* name, const char* help, int (Commands::*run_it)()) {
    CLI::App* const sub = policy->add_subcommand(name, help);
    sub->fallthrough();
    sub->callback([choose, run_it] { choose(run_it); });
    sub->add_option("--host-memory", arguments.host_memory, "Of the host it is for (default: this one's)")
        ->check(memory);
    return sub;
  };
  const auto add_at = [&](CLI::App* sub) {
    sub->add_option("--at", arguments.at,
                    "Time for schedules: 2026-11-22T23:30, with Z for UTC (default: now)")
        ->check(validator(
            "TIME", [](const std::string& text) { return parse_time(text).has_value(); },
            "a time such as 2026-11-22T23:30 or 2026-11-22T23:30Z"));
  };
  CLI::App* const check =
      add("check", "Whether the daemon would take a file: ok, or every complaint", &Commands::check_policy);
  check->add_option("FILE", arguments.file, "Policy file")->required();
  CLI::App* const show =
      add("show", "What a guest would be granted, and which rule says so", &Commands::show_policy);
  show->add_option("FILE", arguments.file, "Policy file")->required();
  show->add_option("--guest", arguments.guest, "The guest's name")->required();
  show->add_option("--labels", arguments.labels, "Its labels, name=value")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(validator("NAME=VALUE", is_label, "a label such as tier=db"));
  show->add_option("--memory", arguments.memory, "Its boot memory")->check(memory)->capture_default_str();
  add_at(show);
  CLI::App* const diff =
      add("diff", "What changes from one file to another, for the running guests too when a daemon answers",
          &Commands::diff_policies);
  diff->add_option("OLD", arguments.file, "Policy file")->required();
  diff->add_option("NEW", arguments.new_file, "Policy file")->required();
  add_at(diff);
}

void add_import_commands(CLI::App& app, ImportArguments& arguments,
                         const std::function<void(int (Commands::*)())>& choose) {
  CLI::App* const import =
      app.add_subcommand("import", "Prints a policy file for what a hypervisor grants its guests today");
  import->require_subcommand(1);
  const auto add = [&](const char* name, const char* help, int (Commands::*run_it)()) {
    CLI::App* const sub = import->add_subcommand(name, help);
    sub->callback([choose, run_it] { choose(run_it); });
    sub->add_option("FILE", arguments.files, "Configuration of one guest")->required();
  };
  add("libvirt", "From domains' XML: /etc/libvirt/qemu/*.xml, or what virsh dumpxml printed",
      &Commands::import_libvirt);
  add("proxmox", "From guests' configuration: /etc/pve/qemu-server/*.conf", &Commands::import_proxmox);
}

void add_reservation_commands(
    Arguments& arguments,
    const std::function<CLI::App*(const char*, const char*, int (Commands::*)())>& add) {
  const auto memory = memory_validator();
  CLI::App* const reserve =
      add("reserve", "Have memory freed for a guest to be, and kept; waits until it is", &Commands::reserve);
  reserve->add_option("ID", arguments.id, "The name that the guest will have")->required();
  reserve->add_option("MIN", arguments.size, "Less is no use")->required()->check(memory);
  reserve->add_option("--max", arguments.max, "More is not wanted (default: MIN)")->check(memory);
  reserve->add_option("--priority", arguments.priority, "As a guest's weight")->capture_default_str();
  reserve->add_option("--within", arguments.within, "How long it may take, at most 24h")
      ->check(duration_validator())
      ->capture_default_str();
  reserve->add_option("--lease", arguments.lease, "How long it is kept (default: 10m, at most 24h)")
      ->check(duration_validator());
  add("release", "End a reservation", &Commands::release)
      ->add_option("ID", arguments.id, "Of the reservation")
      ->required();
  add("reservations", "All reservations, granted or not yet", &Commands::reservations);
}

int run(int argc, char** argv) {
  CLI::App app{"Shows and sets the memory of this host's guests."};
  Arguments arguments;
  app.add_option("--socket", arguments.socket, "The daemon's socket")
      ->envname("BALLOOND_SOCKET")
      ->capture_default_str();
  app.add_option("-o,--output", arguments.output, "table, or json for programs")
      ->check(CLI::IsMember({"table", "json"}))
      ->capture_default_str();
  app.add_option("--timeout", arguments.timeout, "How long to wait for an answer")
      ->check(duration_validator())
      ->capture_default_str();
  app.set_version_flag("--version", "balloonctl " BALLOON_VERSION);
  app.footer(kFooter);
  app.fallthrough();
  app.require_subcommand(1);

  int (Commands::*command)() = nullptr;
  const auto add = [&](const char* name, const char* help, int (Commands::*run_it)()) {
    CLI::App* const sub = app.add_subcommand(name, help);
    sub->fallthrough();
    sub->callback([&command, run_it] { command = run_it; });
    return sub;
  };
  const auto add_guest = [&](CLI::App* sub) {
    sub->add_option("GUEST", arguments.guest, "The guest's name")->required();
  };
  add("list", "All guests", &Commands::list);
  add_guest(add("show", "One guest, with all that is known of it", &Commands::show));
  CLI::App* const host = add(
      "host", "The host's memory; host check: what it has for guests, and what is amiss", &Commands::host);
  CLI::App* const check = host->add_subcommand(
      "check",
      "What this host has of what guests need, and what to do about the rest; exit code 1: a problem");
  check->fallthrough();
  check->add_option("--interface", arguments.interface,
                    "The interface that guests reach the network by (default: that of the default route)");
  // The outer command's callback comes after the inner one's.
  host->callback([&command, check] { command = check->parsed() ? &Commands::host_check : &Commands::host; });
  CLI::App* const set = add("set", "Pin a guest's size for a time; 'auto' ends the pin", &Commands::set);
  add_guest(set);
  set->add_option("SIZE", arguments.size, "Size to leave to the guest, or auto")
      ->required()
      ->check(size_validator());
  set->add_option("--for", arguments.duration, "How long (default: 10m, at most 24h)")
      ->check(duration_validator());
  CLI::App* const merge = add(
      "merge", "Let KSM share a guest's memory with equal memory of others, or end that", &Commands::merge);
  add_guest(merge);
  merge->add_option("STATE", arguments.merging, "on or off")->required()->check(CLI::IsMember({"on", "off"}));
  CLI::App* const watch = add("watch", "All guests again after every change", &Commands::watch);
  watch->add_option("--count", arguments.count, "Stop after this many states")->check(CLI::PositiveNumber);
  add_guest(add("explain", "Why a guest has the target it has", &Commands::explain));

  CLI::App* const replay =
      add("replay", "Decides the daemon's recordings again, as they were or by another policy",
          &Commands::replay);
  replay->add_option("RECORDING", arguments.replay.path, "A file of the daemon's journal, or the directory")
      ->required();
  replay->add_option("--policy", arguments.replay.policy, "Policy file that decides instead");
  replay->add_option("--law", arguments.replay.law, "Control law that decides instead");
  replay->add_option("--guest", arguments.replay.guest, "Only this guest counts");

  add_reservation_commands(arguments, add);
  add_import_commands(app, arguments.import, [&command](int (Commands::*run_it)()) { command = run_it; });
  add_policy_commands(app, arguments.policy, [&command](int (Commands::*run_it)()) { command = run_it; });

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : static_cast<int>(Exit::usage);
  }
  return (Commands(arguments).*command)();
}

}  // namespace
}  // namespace balloon::ctl

int main(int argc, char** argv) {
  ::signal(SIGPIPE, SIG_DFL);  // `balloonctl watch | head` ends quietly
  return balloon::ctl::run(argc, argv);
}
