// SPDX-License-Identifier: Apache-2.0
// What balloond costs on a host that is short of memory for long: six guests, each a process in a cgroup of
// its own, whose samples come each second and say that nothing is left, and whose balloons come and go by
// crumbs; and one `balloonctl watch`, as the testbed has it. The demo's last phase, without its guests.
//   daemon_load PROGRAMS [GUESTS [SECONDS [MOVES]]]
//     PROGRAMS   directory of balloond and balloonctl
//     MOVES      messages a second of each guest about its balloon: 1, or 10 as VMMs sent before
// Prints one line of JSON. Nanoseconds of CPU are instructions where the clock counts them (scripts/bench.sh
// daemon).
#include <time.h>

#include <map>

#include "tests/bench/load.h"
#include "tests/integration/fake_vmm.h"

namespace balloon::test {
namespace {

constexpr std::uint64_t kGuestMiB = 2048;  // of the demo's guests, beside a host's 8192
constexpr std::uint64_t kCrumbsMiB = 6;    // that a balloon of such a guest moves in a second
constexpr seconds kWarmUp{8};              // until the guests are at their shares

struct Load {
  std::string programs;
  int guests = 6;
  int seconds = 30;
  int moves = 1;
};

std::uint64_t number_after(const std::string& text, const std::string& key) {
  const std::size_t at = text.find(key);
  return at == std::string::npos ? 0 : std::strtoull(text.c_str() + at + key.size(), nullptr, 10);
}

/// Where there is a unified hierarchy that may be written to; else its memory is not counted apart.
void enter_own_cgroup(const std::string& name) {
  const fs::path group = fs::path("/sys/fs/cgroup") / name;
  std::error_code error;
  if (!fs::exists(group.parent_path() / "cgroup.controllers", error)) return;
  fs::create_directory(group, error);
  std::ofstream(group / "cgroup.procs") << ::getpid();
}

/// What stands for a mebibyte of the demo's guests beside this host's memory.
std::uint64_t small_mib() {
  return number_after(text_of("/proc/meminfo"), "MemTotal:") * 1024 / (4 * kGuestMiB);
}

[[noreturn]] void be_guest(const std::string& socket, const Load& load, int number) {
  const std::string name = fmt::format("guest-{}", number);
  enter_own_cgroup(name);
  const std::uint64_t mib = small_mib() & ~std::uint64_t{4095};
  FakeVmm guest(socket, FakeVmm::guest(name, kGuestMiB * mib, 1200 * mib));
  const auto begin = Clock::now() + milliseconds(1000 * number / load.guests);
  for (std::uint64_t step = 0;; ++step) {
    const auto moves = static_cast<std::uint64_t>(load.moves);
    std::this_thread::sleep_until(begin + milliseconds(1000 * step / moves));
    guest.send_balloon(kCrumbsMiB * mib * (step % (moves + 1)) / moves);
    if (step % moves != 0) continue;
    const std::uint64_t available = (10 + step / moves % 3) * mib;
    guest.send_stats(guest.actual() - available);
    guest.send_counters();
  }
}

std::map<std::string, std::uint64_t> switches_by_thread(pid_t process) {
  std::map<std::string, std::uint64_t> switches;
  for (const auto& thread : fs::directory_iterator(fmt::format("/proc/{}/task", process))) {
    const std::string status = text_of(thread.path() / "status");
    std::string name = text_of(thread.path() / "comm");
    name.pop_back();
    switches[name] += number_after(status, "\nvoluntary_ctxt_switches:") +
                      number_after(status, "\nnonvoluntary_ctxt_switches:");
  }
  return switches;
}

/// Of all threads, those that have ended, too.
std::uint64_t cpu_nanos(pid_t process) {
  clockid_t clock{};
  timespec used{};
  if (::clock_getcpuclockid(process, &clock) != 0 || ::clock_gettime(clock, &used) != 0) return 0;
  return static_cast<std::uint64_t>(used.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(used.tv_nsec);
}

std::uint64_t decisions(const DaemonPlace& daemon) {
  return number_after(daemon.page(), "balloon_control_loop_duration_seconds_count ");
}

/// What the daemon did in the time of the load, as JSON; whether it decided anything.
bool measure(pid_t process, const DaemonPlace& daemon, const Load& load) {
  const std::uint64_t decided = decisions(daemon);
  auto switches = switches_by_thread(process);
  const std::uint64_t cpu = cpu_nanos(process);
  std::this_thread::sleep_for(seconds(load.seconds));
  const std::uint64_t cpu_used = cpu_nanos(process) - cpu;
  std::string by_thread;
  for (const auto& [name, count] : switches_by_thread(process))
    by_thread += fmt::format("{}\"{}\":{}", by_thread.empty() ? "" : ",", name, count - switches[name]);
  const std::uint64_t made = decisions(daemon) - decided;
  fmt::print(
      "{{\"guests\":{},\"seconds\":{},\"moves\":{},\"cpu_ns\":{},\"decisions\":{},\"switches\":{{{}}}}}\n",
      load.guests, load.seconds, load.moves, cpu_used, made, by_thread);
  return made > 0;
}

int run(const Load& load) {
  const DaemonPlace daemon("daemon_load", "journal: {{directory: {0}/journal}}\n");
  Children children;
  const pid_t process = daemon.start_daemon(children, load.programs);
  if (!daemon.answers()) return 1;
  for (int i = 0; i < load.guests; ++i) children.start([&, i] { be_guest(daemon.socket(), load, i); });
  children.start(load.programs + "/balloonctl", {"--socket", daemon.socket(), "watch", "-o", "json"},
                 daemon.directory() + "/seen");

  std::this_thread::sleep_for(kWarmUp);
  if (measure(process, daemon, load)) return 0;
  fmt::print(stderr, "daemon_load: no decisions: {}\n", text_of(daemon.log()));
  return 1;
}

}  // namespace
}  // namespace balloon::test

int main(int count, char** arguments) {
  const auto number = [&](int at, int otherwise) {
    return std::max(1, static_cast<int>(balloon::test::number_of(count, arguments, at, otherwise)));
  };
  if (count < 2) {
    fmt::print(stderr, "daemon_load PROGRAMS [GUESTS [SECONDS [MOVES]]]\n");
    return 2;
  }
  return balloon::test::run(
      {.programs = arguments[1], .guests = number(2, 6), .seconds = number(3, 30), .moves = number(4, 1)});
}
