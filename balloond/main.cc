// SPDX-License-Identifier: Apache-2.0
// balloond: the host daemon.
#include <grpc/grpc.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include "balloond/config/effective.h"
#include "balloond/daemon.h"
#include "balloond/service_manager.h"
#include "base/command_line.h"
#include "base/log.h"

namespace balloon::daemon {
namespace {

constexpr int kExitFailure = 1;
/// From SIGTERM to the end.
constexpr std::chrono::milliseconds kEndMax{2500};

struct Arguments {
  std::string config = "/etc/balloond/balloond.yaml";
  bool check = false;
  bool print = false;
  bool dry_run = false;
  std::string log_level;
};

/// Each guest takes a connection and up to eight files of /proc and its cgroup: the default of 1024
/// descriptors would end at some 100 guests.
void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

/// Keeps the daemon's memory out of swap: it is needed most when the host has none left. Only where no limit
/// would make later allocations fail for it.
void stay_in_memory() {
  rlimit limit{.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
  if (::setrlimit(RLIMIT_MEMLOCK, &limit) == 0 && ::mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) == 0)
    return;
  log::info(
      "memory is not locked (that needs CAP_SYS_RESOURCE): under pressure the host may swap this daemon out");
}

int complain(const std::string& message) {
  std::fprintf(stderr, "balloond: %s\n", message.c_str());
  return kExitFailure;
}

/// The end is bounded, whatever some part of it waits for (a disk, a peer): what is lost by it is no more
/// than by SIGKILL, which the daemon survives at any moment.
void bound_the_end() {
  std::thread([] {
    std::this_thread::sleep_for(kEndMax);
    log::error("stopping takes too long: this is the end");
    std::this_thread::sleep_for(std::chrono::milliseconds(100));  // the line's way out
    std::_Exit(kExitFailure);
  }).detach();
}

/// Keeps gRPC's library up until the process ends. Its last user would wait for the library's own threads,
/// one of which may sit in a poll of 10 s for a peer that does not read (gRPC 1.51, tcp_posix.cc,
/// run_poller).
void keep_grpc_up() { grpc_init(); }

int serve(Daemon& daemon, const sigset_t& signals) {
  auto manager = ServiceManager::of_environment();
  const auto tell_ready = [&] { manager.ready("serving on " + daemon.socket_path(), daemon.stall_after()); };
  tell_ready();
  while (true) {
    constexpr timespec second{.tv_sec = 1, .tv_nsec = 0};
    const int signal = ::sigtimedwait(&signals, nullptr, &second);
    if (signal == SIGHUP) {
      manager.reloading();
      daemon.reload();
      tell_ready();
    }
    if (signal == SIGTERM || signal == SIGINT) {
      manager.stopping();
      log::info("stopping: balloons stay as they are");
      bound_the_end();
      return 0;
    }
    daemon.refresh();
    manager.look(daemon.ticks());
  }
}

int run(const Arguments& arguments) {
  const auto memory = host_memory();
  if (!memory) return complain(memory.error().message);
  auto config = load_config(arguments.config, *memory);
  if (!config) {
    std::fprintf(stderr, "%s\n", config.error().message.c_str());
    return kExitFailure;
  }
  if (arguments.check) {
    if (const auto there = check_backends(config->daemon); !there) return complain(there.error().message);
    std::puts("ok");
    return command_line::finish(0, "balloond");
  }
  if (arguments.print) {
    config->daemon.dry_run |= arguments.dry_run;
    std::fputs(effective_config(*config).c_str(), stdout);
    return command_line::finish(0, "balloond");
  }
  if (!arguments.log_level.empty()) config->daemon.log_level = arguments.log_level;
  if (const auto started = log::start("balloond", config->daemon.log_level); !started)
    return complain(started.error().message);

  // Every thread inherits the mask: signals come to serve() alone.
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGHUP, SIGTERM, SIGINT}) sigaddset(&signals, signal);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  raise_descriptor_limit();
  stay_in_memory();
  keep_grpc_up();

  const auto daemon = Daemon::start(arguments.config, std::move(*config), arguments.dry_run);
  if (!daemon) return complain(daemon.error().message);
  return serve(**daemon, signals);
}

}  // namespace
}  // namespace balloon::daemon

int main(int argc, char** argv) {
  CLI::App app{"Balances memory between this host's guests by moving their balloons.", "balloond"};
  balloon::daemon::Arguments arguments;
  app.add_option("--config", arguments.config, "Configuration file")->capture_default_str();
  app.add_flag("--check-config", arguments.check,
               "Check the configuration, say ok or every complaint, and exit with 0 or 1");
  app.add_flag("--print-effective-config", arguments.print,
               "Print what would be in force, with everything that the files leave out, and exit");
  app.add_flag("--dry-run", arguments.dry_run,
               "Decide, explain and record everything, and apply nothing: no balloon is moved");
  app.add_option("--log-level", arguments.log_level, "debug, info, warning or error (default: as configured)")
      ->check(CLI::IsMember({"debug", "info", "warning", "error"}));
  app.set_version_flag("--version", "balloond " BALLOON_VERSION);
  app.footer("SIGHUP loads the configuration again; SIGTERM stops. Exit: 0 stopped, 1 failure, 2 usage.");
  if (const auto stop = balloon::command_line::parse(app, argc, argv))
    return balloon::command_line::say(*stop, "balloond");
  return balloon::daemon::run(arguments);
}
