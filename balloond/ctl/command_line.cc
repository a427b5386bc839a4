// SPDX-License-Identifier: Apache-2.0
// The commands and options of balloonctl: here and nowhere else. Help, manual page and completion come from
// here.
#include "base/command_line.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>

#include "balloond/ctl/arguments.h"
#include "balloond/ctl/commands.h"
#include "base/bytes.h"

namespace balloon::ctl {
namespace {

using std::chrono::nanoseconds;

constexpr auto kFooter =
    "Sizes are written like 512MiB or 2GiB, durations like 30s, 10m or 1h. JSON and YAML have sizes in "
    "bytes\n"
    "and durations in seconds. On a terminal tables fit its width; -o wide leaves nothing out.\n"
    "Exit codes: 0 ok, 1 failure, 2 usage, 3 no such guest or reservation, 4 refused by the daemon,\n"
    "5 daemon not reachable. With -o json or yaml errors are JSON too.\n"
    "policy check and show: 0 good, 1 bad; policy diff: 0 the same, 1 different or bad.\n"
    "replay: 0 ok, 1 unreadable, 3 the plans are not those that were recorded.\n"
    "Environment: BALLOOND_SOCKET is the default of --socket, BALLOON_TOKEN of --token; NO_COLOR turns\n"
    "colours off.";

/// Words of virsh and kubectl.
constexpr std::array kForeign{
    command_line::Foreign{"get", "'list' for all guests, 'show GUEST' for one, or 'reservations'"},
    command_line::Foreign{"describe", "'show GUEST', or 'explain GUEST' for why its size is what it is"},
    command_line::Foreign{"dommemstat", "'show GUEST'"},
    command_line::Foreign{"dominfo", "'show GUEST'"},
    command_line::Foreign{"domstats", "'list'"},
    command_line::Foreign{"setmem", "'set GUEST SIZE'"},
    command_line::Foreign{"pin", "'set GUEST SIZE'"},
    command_line::Foreign{"edit", "a policy file: 'policy check' judges it"},
    command_line::Foreign{"setmaxmem", "a policy file: 'policy check' judges it"},
    command_line::Foreign{"nodeinfo", "'host'"},
    command_line::Foreign{"nodememstats", "'host'"},
    command_line::Foreign{"apply", "'policy check FILE', and then a reload of balloond"},
    command_line::Foreign{"logs", "'explain GUEST', or 'replay' for what was decided before"},
    command_line::Foreign{"delete", "'release ID' for a reservation"},
    command_line::Foreign{"status", "'host', or 'list'"},
};

/// Longest that a pin, a reservation or its lease may hold (scheduler.proto).
constexpr nanoseconds kWishMax = std::chrono::hours(24);

CLI::Validator duration(std::optional<nanoseconds> most = std::nullopt) {
  return {[most](std::string& text) {
            const auto parsed = parse_duration(text);
            if (!parsed) return "'" + text + "' is not a duration such as 30s, 10m or 1h";
            return most && *parsed > *most ? "'" + text + "' is longer than 24h" : std::string();
          },
          ""};
}

CLI::Validator memory() {
  return {[](std::string& text) {
            const auto size = parse_bytes(text);
            if (!size) return size.error().message;
            return *size == Bytes{0} ? std::string("it must be more than 0") : std::string();
          },
          ""};
}

CLI::Validator size_or_auto() {
  return {[](std::string& text) {
            if (text == "auto") return std::string();
            const auto size = parse_bytes(text);
            return size ? std::string() : size.error().message;
          },
          ""};
}

CLI::Validator validator(const char* name, bool (*good)(const std::string&), const char* expected) {
  return {[good, expected](std::string& text) {
            return good(text) ? std::string() : "'" + text + "' is not " + expected;
          },
          name};
}

/// guest_link.proto, Register.name.
bool is_name(const std::string& text) {
  return !text.empty() && text.size() <= 64 && std::ranges::all_of(text, [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-';
  });
}

/// Options that several commands share, in the same words in each.
class Options {
 public:
  explicit Options(Arguments& arguments) : arguments_(arguments) {}

  void output(CLI::App& app, std::vector<std::string> formats = {"table", "wide", "json", "yaml"}) {
    app.add_option("-o,--output", arguments_.output,
                   fmt::format("How to print: {}", fmt::join(formats, ", ")))
        ->check(CLI::IsMember(std::move(formats)))
        ->type_name("FORMAT")
        ->default_str(arguments_.output);
  }
  void headings(CLI::App& app) {
    app.add_flag("--no-headings", arguments_.no_headings, "Tables without their first line");
  }
  /// The environment is looked at once, for the outermost: here it would win over what was written there.
  void daemon(CLI::App& app, bool outermost = false) {
    auto* const socket =
        app.add_option("--socket", arguments_.socket, "The daemon's socket")->type_name("PATH");
    socket->default_str(arguments_.socket);
    if (outermost) socket->envname("BALLOOND_SOCKET");
    app.add_option("--timeout", arguments_.timeout, "How long to wait for an answer")
        ->check(duration())
        ->type_name("DURATION")
        ->default_str(arguments_.timeout);
  }
  void guest(CLI::App& app) {
    app.add_option("GUEST", arguments_.guest, "The guest's name")->required()->type_name("");
  }

 private:
  Arguments& arguments_;
};

class Definition {
 public:
  Definition(CLI::App& app, CommandLine& line)
      : app_(app), line_(line), arguments_(line.arguments), options_(line.arguments) {}

  void all() {
    options_.daemon(app_, true);
    options_.output(app_);
    options_.headings(app_);
    app_.set_version_flag("--version", "balloonctl " BALLOON_VERSION);
    app_.require_subcommand(1);
    look();
    wishes();
    reservations();
    capacity();
    policies();
    imports();
    replay();
    app_.footer(kFooter);  // last: commands would inherit it
  }

 private:
  CLI::App& add(CLI::App& to, const char* name, const char* help, Command command) {
    CLI::App* const sub = to.add_subcommand(name, help);
    sub->callback([this, command] { line_.command = command; });
    return *sub;
  }
  /// One that asks the daemon.
  CLI::App& ask(const char* name, const char* help, Command command, bool table = false) {
    CLI::App& sub = add(app_, name, help, command);
    options_.output(sub);
    if (table) options_.headings(sub);
    options_.daemon(sub);
    return sub;
  }

  void look() {
    ask("list", "All guests", &Commands::list, true);
    options_.guest(ask("show", "One guest, with all that is known of it", &Commands::show));
    options_.guest(ask("explain", "Why a guest has the target it has", &Commands::explain));
    ask("needs", "What guests needed over a day, a week and a month, to size them by", &Commands::needs, true)
        .add_option("GUEST", arguments_.guest, "Of this guest only, day by day")
        ->type_name("");
    ask("watch", "All guests again after every change", &Commands::watch, true)
        .add_option("--count", arguments_.count, "Stop after this many states")
        ->check(CLI::PositiveNumber)
        ->type_name("NUMBER");
    CLI::App& top = add(app_, "top", "Host and guests on the whole screen, live", &Commands::top);
    top.add_flag("--once", arguments_.top.once, "Print one screen with all guests, and end");
    top.add_option("--sort", arguments_.top.sort, "name, used, available, actual, target or state")
        ->check(CLI::IsMember({"name", "used", "available", "actual", "target", "state"}))
        ->type_name("KEY")
        ->capture_default_str();
    top.add_option("--filter", arguments_.top.filter, "Only guests whose name or label (key=value) has this")
        ->type_name("TEXT");
    options_.daemon(top);
    CLI::App& host = ask("host", "The host's memory; host check: what it has for guests, and what is amiss",
                         &Commands::host);
    CLI::App* const check = host.add_subcommand(
        "check",
        "What this host has of what guests need, and what to do about the rest; exit code 1: a problem");
    options_.output(*check);
    check
        ->add_option("--interface", arguments_.interface,
                     "The interface that guests reach the network by (default: that of the default route)")
        ->type_name("NAME");
    // The outer command's callback comes after the inner one's.
    host.callback(
        [this, check] { line_.command = check->parsed() ? &Commands::host_check : &Commands::host; });
  }

  void wishes() {
    CLI::App& set = ask("set", "Pin a guest's size for a time; 'auto' ends the pin", &Commands::set);
    options_.guest(set);
    set.add_option("SIZE", arguments_.size, "Size to leave to the guest, or auto")
        ->required()
        ->check(size_or_auto())
        ->type_name("");
    set.add_option("--for", arguments_.duration, "How long (default: 10m, at most 24h)")
        ->check(duration(kWishMax))
        ->type_name("DURATION");
    ask("pause", "Leave all balloons as they are: decide and show everything, apply nothing",
        &Commands::pause)
        .add_option("--for", arguments_.duration, "How long, at most 24h (default: until resume)")
        ->check(duration(kWishMax))
        ->type_name("DURATION");
    ask("resume", "End a pause", &Commands::resume);
    CLI::App& merge = ask("merge", "Let KSM share a guest's memory with equal memory of others, or end that",
                          &Commands::merge);
    options_.guest(merge);
    merge.add_option("STATE", arguments_.merging, "on or off")
        ->required()
        ->check(CLI::IsMember({"on", "off"}))
        ->type_name("");
  }

  void reservations() {
    CLI::App& reserve = ask("reserve", "Have memory freed for a guest to be, and kept; waits until it is",
                            &Commands::reserve);
    reserve.add_option("ID", arguments_.id, "The name that the guest will have")
        ->required()
        ->check(validator("", is_name, "a name of 1 to 64 characters of A-Z a-z 0-9 . _ -"));
    reserve.add_option("MIN", arguments_.size, "Less is no use")
        ->required()
        ->check(memory())
        ->type_name("SIZE");
    reserve.add_option("--max", arguments_.max, "More is not wanted, MIN or more (default: MIN)")
        ->check(memory())
        ->type_name("SIZE");
    add_priority(reserve);
    add_within(reserve);
    reserve.add_option("--lease", arguments_.lease, "How long it is kept (default: 10m, at most 24h)")
        ->check(duration(kWishMax))
        ->type_name("DURATION");
    reserve
        .add_option("--request-id", arguments_.request_id,
                    "Names this wish: asked again by the same user it is the same reservation")
        ->type_name("TEXT");
    reserve.add_option("--owner", arguments_.owner, "Whose it is, for people (default: the user)")
        ->type_name("TEXT");
    reserve.add_flag("--detach", arguments_.detach, "Do not wait: 'reservation ID' tells what becomes of it");
    reserve.callback([this] {
      const auto min = parse_bytes(arguments_.size);
      const auto max = parse_bytes(arguments_.max);
      if (min && max && *max < *min) {
        throw CLI::ValidationError(
            "--max", fmt::format("{} is below MIN, {}", format_bytes(*max), format_bytes(*min)));
      }
      line_.command = &Commands::reserve;
    });
    claim(ask("release", "End a reservation", &Commands::release));
    add_lease(claim(ask("extend", "Begin the lease of a grant anew", &Commands::extend)));
    add_lease(claim(
        ask("commit", "Say that a reservation's guest is being started: it is kept until the guest has come",
            &Commands::commit)));
    add_id(ask("reservation", "One reservation, also one that has ended", &Commands::reservation));
    ask("reservations", "All reservations, granted or not yet", &Commands::reservations, true);
  }

  void capacity() {
    ask("capacity", "What the host has for guests to be", &Commands::capacity);
    CLI::App& fit = ask("fit", "What reserve would be answered for each SIZE, and whom that would squeeze",
                        &Commands::fit, true);
    fit.add_option("SIZE", arguments_.sizes, "Of a guest; several stand each for itself")
        ->required()
        ->check(memory())
        ->type_name("");
    add_priority(fit);
    add_within(fit);
  }

  void add_priority(CLI::App& app) {
    app.add_option("--priority", arguments_.priority, "As a guest's weight, 1 to 10000")
        ->check(CLI::Range(1, 10'000))
        ->type_name("NUMBER")
        ->capture_default_str();
  }
  void add_within(CLI::App& app) {
    app.add_option("--within", arguments_.within, "How long it may take, at most 24h")
        ->check(duration(kWishMax))
        ->type_name("DURATION")
        ->capture_default_str();
  }
  void add_id(CLI::App& app) {
    app.add_option("ID", arguments_.id, "Of the reservation")->required()->type_name("");
  }
  void add_lease(CLI::App& app) {
    app.add_option("--lease", arguments_.lease,
                   "How long it is kept from now on (default: as long as before)")
        ->check(duration(kWishMax))
        ->type_name("DURATION");
  }
  /// What changes a reservation: its token, or an operator's word.
  CLI::App& claim(CLI::App& app) {
    add_id(app);
    app.add_option("--token", arguments_.token, "As reserve printed it")
        ->envname("BALLOON_TOKEN")
        ->type_name("TOKEN");
    app.add_flag("--force", arguments_.force, "Without its token, by whoever has the role operate");
    return app;
  }

  CLI::App& add_policy(CLI::App& policy, const char* name, const char* help, Command command) {
    CLI::App& sub = add(policy, name, help, command);
    sub.add_option("--host-memory", arguments_.policy.host_memory,
                   "Of the host it is for (default: this one's)")
        ->check(memory())
        ->type_name("SIZE");
    options_.output(sub);
    return sub;
  }

  void add_time(CLI::App& sub) {
    sub.add_option("--at", arguments_.policy.at,
                   "Time for schedules: 2026-11-22T23:30, with Z for UTC (default: now)")
        ->check(validator(
            "TIME", [](const std::string& text) { return parse_time(text).has_value(); },
            "a time such as 2026-11-22T23:30 or 2026-11-22T23:30Z"));
  }

  static void add_file(CLI::App& sub, const char* name, std::string& into) {
    sub.add_option(name, into, "Policy file")->required()->type_name("");
  }

  void policies() {
    CLI::App* const policy = app_.add_subcommand("policy", "Judges policy files");
    policy->require_subcommand(1);
    CLI::App& check =
        add_policy(*policy, "check", "Whether the daemon would take a file: ok, or every complaint",
                   &Commands::check_policy);
    add_file(check, "FILE", arguments_.policy.file);
    CLI::App& show = add_policy(*policy, "show", "What a guest would be granted, and which rule says so",
                                &Commands::show_policy);
    add_file(show, "FILE", arguments_.policy.file);
    show.add_option("--guest", arguments_.policy.guest, "The guest's name")->required()->type_name("NAME");
    show.add_option("--labels", arguments_.policy.labels, "Its labels, name=value")
        ->delimiter(',')
        ->allow_extra_args(false)
        ->check(validator("NAME=VALUE", is_label, "a label such as tier=db"));
    show.add_option("--memory", arguments_.policy.memory, "Its boot memory")
        ->check(memory())
        ->type_name("SIZE")
        ->capture_default_str();
    add_time(show);
    CLI::App& diff =
        add_policy(*policy, "diff",
                   "What changes from one file to another, for the running guests too when a daemon answers",
                   &Commands::diff_policies);
    add_file(diff, "OLD", arguments_.policy.file);
    add_file(diff, "NEW", arguments_.policy.new_file);
    add_time(diff);
    options_.daemon(diff);
  }

  void imports() {
    CLI::App* const import =
        app_.add_subcommand("import", "Prints a policy file for what a hypervisor grants its guests today");
    import->require_subcommand(1);
    const auto add_import = [&](const char* name, const char* help, Command command) {
      add(*import, name, help, command)
          .add_option("FILE", arguments_.import.files, "Configuration of one guest")
          ->required();
    };
    add_import("libvirt", "From domains' XML: /etc/libvirt/qemu/*.xml, or what virsh dumpxml printed",
               &Commands::import_libvirt);
    add_import("proxmox", "From guests' configuration: /etc/pve/qemu-server/*.conf",
               &Commands::import_proxmox);
  }

  void replay() {
    CLI::App& replay =
        add(app_, "replay", "Decides the daemon's recordings again, as they were or by another policy",
            &Commands::replay);
    replay
        .add_option("RECORDING", arguments_.replay.path, "A file of the daemon's journal, or the directory")
        ->required()
        ->type_name("");
    replay.add_option("--policy", arguments_.replay.policy, "Policy file that decides instead")
        ->type_name("FILE");
    replay.add_option("--law", arguments_.replay.law, "Control law that decides instead")->type_name("NAME");
    replay.add_option("--guest", arguments_.replay.guest, "Only this guest counts")->type_name("NAME");
    options_.output(replay, {"table", "json"});
  }

  CLI::App& app_;
  CommandLine& line_;
  Arguments& arguments_;
  Options options_;
};

/// What is wrong may be said before it is known how: by the words themselves.
bool asks_for_json(int argc, const char* const* argv) {
  std::string last;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    for (const char* const format : {"json", "yaml"}) {
      if ((last == "-o" || last == "--output") && word == format) return true;
      if (word == fmt::format("-o{}", format) || word == fmt::format("--output={}", format)) return true;
    }
    last = word;
  }
  return false;
}

/// "help list" as "list --help".
std::vector<const char*> with_help_first(int argc, const char* const* argv) {
  std::vector<const char*> words(argv, argv + argc);
  if (words.size() > 1 && std::string_view(words[1]) == "help") {
    words.erase(words.begin() + 1);
    words.push_back("--help");
  }
  return words;
}

}  // namespace

std::optional<nanoseconds> parse_duration(const std::string& text) {
  double number = 0;
  const char* const last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, number, std::chars_format::fixed);
  const std::string unit(end, last);
  const double scale = unit == "ms" ? 1e6 : unit == "s" ? 1e9 : unit == "m" ? 60e9 : unit == "h" ? 3600e9 : 0;
  if (error != std::errc{} || scale == 0 || !(number > 0) || number * scale > 9e18) return std::nullopt;
  return nanoseconds(static_cast<std::int64_t>(number * scale));
}

Format format_of(const std::string& output) {
  return output == "json"   ? Format::json
         : output == "yaml" ? Format::yaml
         : output == "wide" ? Format::wide
                            : Format::table;
}

CommandLine parse_command_line(int argc, const char* const* argv) {
  CommandLine line;
  CLI::App app("Shows and sets the memory of this host's guests.", "balloonctl");
  Definition definition(app, line);  // its callbacks run while the words are parsed
  definition.all();
  const auto words = with_help_first(argc, argv);
  const auto stop = command_line::parse(app, static_cast<int>(words.size()), words.data(), kForeign);
  if (!stop) return line;
  if (!stop->good && asks_for_json(argc, argv)) {
    fmt::print(stderr, "{}", error_json({Exit::usage, stop->text}));
    line.exit_status = static_cast<int>(Exit::usage);
  } else {
    line.exit_status = command_line::say(*stop, "balloonctl");
  }
  return line;
}

}  // namespace balloon::ctl
