// SPDX-License-Identifier: Apache-2.0
// What a scrape costs a daemon with many guests, and whether its decisions begin later for it: guests that
// are only a link and send statistics each second; the loop's lateness is measured without scrapes, and then
// with one each second.
//   scrape_load PROGRAMS [GUESTS [SECONDS]]
// Prints one line of JSON.
#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <thread>
#include <vector>

#include "tests/integration/fake_vmm.h"
#include "tests/integration/http.h"

namespace balloon::test {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using std::chrono::seconds;

/// Each has some threads for each of its links.
constexpr int kGuestsOfProcess = 100;

double value_of(const std::string& page, const std::string& name) {
  const std::size_t at = page.find("\n" + name + " ");
  return at == std::string::npos ? 0 : std::strtod(page.c_str() + at + name.size() + 2, nullptr);
}

[[noreturn]] void be_guests(const std::string& socket, int first, int count) {
  std::vector<std::unique_ptr<FakeVmm>> guests;
  for (int i = 0; i < count; ++i) {
    guests.push_back(std::make_unique<FakeVmm>(
        socket, FakeVmm::guest(fmt::format("guest-{}", first + i), 64 * kMiB, 64 * kMiB), false));
  }
  // Spread over the second, as guests that started at times of their own are.
  const auto apart = Clock::duration(seconds(1)) / count;
  for (auto next = Clock::now();;) {
    for (const auto& guest : guests) {
      std::this_thread::sleep_until(next += apart);
      guest->send_stats(guest->actual() / 2);
      guest->send_counters();
    }
  }
}

/// How late decisions began so far.
struct Account {
  double late = 0, decisions = 0;
};

Account account_of(const std::string& metrics) {
  const std::string page = http_get(metrics);
  return {.late = value_of(page, "balloon_control_loop_lateness_seconds_sum"),
          .decisions = value_of(page, "balloon_control_loop_lateness_seconds_count")};
}

double mean_lateness_ms(const Account& from, const Account& to) {
  return to.decisions > from.decisions ? 1e3 * (to.late - from.late) / (to.decisions - from.decisions) : 0;
}

int run(const std::string& programs, int guests, int time) {
  std::string directory = fs::temp_directory_path() / "scrape_load.XXXXXX";
  if (::mkdtemp(directory.data()) == nullptr) return 1;
  const std::string socket = directory + "/s", metrics = "unix:" + directory + "/m";
  std::ofstream(directory + "/policy.yaml") << "{}\n";
  std::ofstream(directory + "/balloond.yaml") << fmt::format(
      "socket: {{path: {}}}\npolicy: policy.yaml\nmetrics: {{listen: '{}'}}\n", socket, metrics);
  std::vector<pid_t> children;
  const auto fork_and = [&](auto run) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      run();
      std::_Exit(1);
    }
    children.push_back(child);
  };
  fork_and([&] {
    const std::string program = programs + "/balloond", config = directory + "/balloond.yaml";
    if (std::freopen((directory + "/log").c_str(), "w", stderr) == nullptr) return;
    ::execl(program.c_str(), program.c_str(), "--config", config.c_str(), nullptr);
  });
  for (int i = 0; !fs::exists(directory + "/m") && i < 300; ++i)
    std::this_thread::sleep_for(milliseconds(100));
  for (int first = 0; first < guests; first += kGuestsOfProcess)
    fork_and([&] { be_guests(socket, first, std::min(kGuestsOfProcess, guests - first)); });

  const auto connected = [&] {
    return value_of(http_get(metrics), "balloon_backend_guests{backend=\"balloon-vmm\"}");
  };
  for (int i = 0; connected() < guests && i < 120; ++i) std::this_thread::sleep_for(seconds(1));
  const double there = connected();
  std::this_thread::sleep_for(seconds(5));

  const Account begin = account_of(metrics);
  std::this_thread::sleep_for(seconds(time));
  const Account quiet = account_of(metrics);
  std::vector<double> took;
  std::size_t size = 0;
  for (int i = 0; i < time; ++i) {
    const auto before = Clock::now();
    size = http_get(metrics).size();
    took.push_back(std::chrono::duration<double, std::milli>(Clock::now() - before).count());
    std::this_thread::sleep_until(before + seconds(1));
  }
  const Account scraped = account_of(metrics);
  for (const pid_t each : children) ::kill(each, SIGKILL);
  while (::wait(nullptr) > 0) {
  }
  fs::remove_all(directory);
  std::ranges::sort(took);
  fmt::print(
      "{{\"guests\":{},\"bytes\":{},\"scrape_ms\":{{\"min\":{:.1f},\"median\":{:.1f},\"max\":{:.1f}}},"
      "\"mean_lateness_ms\":{{\"without\":{:.2f},\"with_scrapes\":{:.2f}}}}}\n",
      there, size, took.front(), took[took.size() / 2], took.back(), mean_lateness_ms(begin, quiet),
      mean_lateness_ms(quiet, scraped));
  return there == guests ? 0 : 1;
}

}  // namespace
}  // namespace balloon::test

int main(int count, char** arguments) {
  if (count < 2) {
    fmt::print(stderr, "scrape_load PROGRAMS [GUESTS [SECONDS]]\n");
    return 2;
  }
  const auto number = [&](int at, int otherwise) {
    return count > at ? std::max(1, std::atoi(arguments[at])) : otherwise;
  };
  return balloon::test::run(arguments[1], number(2, 1000), number(3, 30));
}
