// SPDX-License-Identifier: Apache-2.0
// What balloond costs on a host that is short of memory for long: six guests, each a process in a cgroup of
// its own, whose samples come each second and say that nothing is left, and whose balloons come and go by
// crumbs; and one `balloonctl watch`, as the testbed has it. The demo's last phase, without its guests.
//   daemon_load PROGRAMS [GUESTS [SECONDS [MOVES]]]
//     PROGRAMS   directory of balloond and balloonctl
//     MOVES      messages a second of each guest about its balloon: 1, or 10 as VMMs sent before
// Prints one line of JSON. Nanoseconds of CPU are instructions where the clock counts them (scripts/bench.sh
// daemon).
#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <thread>
#include <vector>

#include "tests/integration/fake_vmm.h"
#include "tests/integration/http.h"

namespace balloon::test {
namespace {

namespace fs = std::filesystem;
using std::chrono::seconds;

constexpr std::uint64_t kGuestMiB = 2048;  // of the demo's guests, beside a host's 8192
constexpr std::uint64_t kCrumbsMiB = 6;    // that a balloon of such a guest moves in a second
constexpr seconds kWarmUp{8};              // until the guests are at their shares

struct Load {
  std::string programs;
  int guests = 6;
  int seconds = 30;
  int moves = 1;
};

std::string text_of(const fs::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::uint64_t number_after(const std::string& text, const std::string& key) {
  const std::size_t at = text.find(key);
  return at == std::string::npos ? 0 : std::strtoull(text.c_str() + at + key.size(), nullptr, 10);
}

/// Ends with this process.
template <typename Run>
pid_t fork_and(Run run) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  run();
  std::_Exit(1);
}

pid_t start(const std::string& program, const std::vector<std::string>& arguments,
            const std::string& output) {
  return fork_and([&] {
    std::vector<char*> argv{const_cast<char*>(program.c_str())};
    for (const std::string& each : arguments) argv.push_back(const_cast<char*>(each.c_str()));
    argv.push_back(nullptr);
    if (std::freopen(output.c_str(), "w", stdout) == nullptr) return;
    ::dup2(STDOUT_FILENO, STDERR_FILENO);
    ::execv(program.c_str(), argv.data());
  });
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
  const auto begin =
      std::chrono::steady_clock::now() + std::chrono::milliseconds(1000 * number / load.guests);
  for (std::uint64_t step = 0;; ++step) {
    const auto moves = static_cast<std::uint64_t>(load.moves);
    std::this_thread::sleep_until(begin + std::chrono::milliseconds(1000 * step / moves));
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

std::uint64_t decisions(const std::string& metrics) {
  return number_after(http_get(metrics), "balloon_control_loop_duration_seconds_count ");
}

void write_config(const std::string& directory, const std::string& socket, const std::string& metrics) {
  std::ofstream(directory + "/policy.yaml") << "{}\n";
  std::ofstream(directory + "/balloond.yaml") << fmt::format(
      "socket: {{path: {}}}\npolicy: policy.yaml\nmetrics: {{listen: '{}'}}\njournal: {{directory: "
      "{}/journal}}\n",
      socket, metrics, directory);
}

/// What the daemon did in the time of the load, as JSON; whether it decided anything.
bool measure(pid_t daemon, const std::string& metrics, const Load& load) {
  const std::uint64_t decided = decisions(metrics);
  auto switches = switches_by_thread(daemon);
  const std::uint64_t cpu = cpu_nanos(daemon);
  std::this_thread::sleep_for(seconds(load.seconds));
  const std::uint64_t cpu_used = cpu_nanos(daemon) - cpu;
  std::string by_thread;
  for (const auto& [name, count] : switches_by_thread(daemon))
    by_thread += fmt::format("{}\"{}\":{}", by_thread.empty() ? "" : ",", name, count - switches[name]);
  const std::uint64_t made = decisions(metrics) - decided;
  fmt::print(
      "{{\"guests\":{},\"seconds\":{},\"moves\":{},\"cpu_ns\":{},\"decisions\":{},\"switches\":{{{}}}}}\n",
      load.guests, load.seconds, load.moves, cpu_used, made, by_thread);
  return made > 0;
}

int run(const Load& load) {
  std::string directory = fs::temp_directory_path() / "daemon_load.XXXXXX";
  if (::mkdtemp(directory.data()) == nullptr) return 1;
  const std::string socket = directory + "/s", metrics = free_address();
  write_config(directory, socket, metrics);
  const pid_t daemon =
      start(load.programs + "/balloond", {"--config", directory + "/balloond.yaml"}, directory + "/log");
  for (int i = 0; !fs::exists(socket) && i < 600; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  std::vector<pid_t> others;
  for (int i = 0; i < load.guests; ++i) others.push_back(fork_and([&] { be_guest(socket, load, i); }));
  others.push_back(
      start(load.programs + "/balloonctl", {"--socket", socket, "watch", "-o", "json"}, directory + "/seen"));

  std::this_thread::sleep_for(kWarmUp);
  const bool decides = measure(daemon, metrics, load);
  for (const pid_t each : others) ::kill(each, SIGKILL);
  ::kill(daemon, SIGTERM);
  while (::wait(nullptr) > 0) {
  }
  if (!decides) fmt::print(stderr, "daemon_load: no decisions: {}\n", text_of(directory + "/log"));
  fs::remove_all(directory);
  return decides ? 0 : 1;
}

}  // namespace
}  // namespace balloon::test

int main(int count, char** arguments) {
  const auto number = [&](int at, int otherwise) {
    return count > at ? std::max(1, std::atoi(arguments[at])) : otherwise;
  };
  if (count < 2) {
    fmt::print(stderr, "daemon_load PROGRAMS [GUESTS [SECONDS [MOVES]]]\n");
    return 2;
  }
  return balloon::test::run(
      {.programs = arguments[1], .guests = number(2, 6), .seconds = number(3, 30), .moves = number(4, 1)});
}
