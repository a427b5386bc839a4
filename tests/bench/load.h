// SPDX-License-Identifier: Apache-2.0
// What the loads of scripts/bench.sh share: a daemon in a directory of its own, processes around it, and what
// its page of metrics says.
#pragma once

#include <fmt/format.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "tests/integration/http.h"

namespace balloon::test {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using std::chrono::seconds;

inline std::string text_of(const fs::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// Of a series, with its labels, on a page of metrics; 0 where it is not there.
inline double value_of(const std::string& page, const std::string& series) {
  const std::size_t at = page.find("\n" + series + " ");
  return at == std::string::npos ? 0 : std::strtod(page.c_str() + at + series.size() + 2, nullptr);
}

inline bool eventually(const std::function<bool()>& condition, seconds limit) {
  const auto end = Clock::now() + limit;
  while (!condition()) {
    if (Clock::now() > end) return false;
    std::this_thread::sleep_for(milliseconds(100));
  }
  return true;
}

/// The argument at that place of the command line.
inline double number_of(int count, char** arguments, int at, double otherwise) {
  return count > at ? std::max(0.001, std::atof(arguments[at])) : otherwise;
}

/// This thread, and what it starts from now on.
inline void stay_on(std::size_t cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  if (::sched_setaffinity(0, sizeof set, &set) != 0) std::perror("not on a CPU of its own");
}

/// Processes that end with this one.
class Children {
 public:
  Children() = default;
  ~Children() { end(); }
  Children(const Children&) = delete;
  Children& operator=(const Children&) = delete;

  pid_t start(const std::function<void()>& run) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      run();
      std::_Exit(1);
    }
    children_.push_back(child);
    return child;
  }
  /// A program; what it prints goes to `output`, a file.
  pid_t start(const std::string& program, const std::vector<std::string>& arguments,
              const std::string& output) {
    return start([&] {
      std::vector<char*> argv{const_cast<char*>(program.c_str())};
      for (const std::string& each : arguments) argv.push_back(const_cast<char*>(each.c_str()));
      argv.push_back(nullptr);
      if (std::freopen(output.c_str(), "w", stdout) == nullptr) return;
      ::dup2(STDOUT_FILENO, STDERR_FILENO);
      ::execv(program.c_str(), argv.data());
    });
  }
  void end() {
    for (const pid_t each : children_) ::kill(each, SIGKILL);
    for (const pid_t each : children_) ::waitpid(each, nullptr, 0);
    children_.clear();
  }

 private:
  std::vector<pid_t> children_;
};

/// A directory with the configuration of a daemon, its socket and its metrics; gone afterwards.
class DaemonPlace {
 public:
  /// `more`: lines of balloond.yaml, in which "{0}" is the directory.
  explicit DaemonPlace(const std::string& load, std::string_view more = "")
      : directory_(fs::temp_directory_path() / (load + ".XXXXXX")) {
    if (::mkdtemp(directory_.data()) == nullptr) {
      std::perror("a directory for the load");
      std::_Exit(1);
    }
    std::ofstream(directory_ + "/policy.yaml") << "{}\n";
    std::ofstream(config()) << fmt::format(
                                   "socket: {{path: {}}}\npolicy: policy.yaml\nmetrics: {{listen: '{}'}}\n",
                                   socket(), metrics())
                            << fmt::format(fmt::runtime(more), directory_);
  }
  ~DaemonPlace() { fs::remove_all(directory_); }
  DaemonPlace(const DaemonPlace&) = delete;
  DaemonPlace& operator=(const DaemonPlace&) = delete;

  const std::string& directory() const { return directory_; }
  std::string config() const { return directory_ + "/balloond.yaml"; }
  std::string log() const { return directory_ + "/log"; }
  std::string socket() const { return directory_ + "/s"; }
  std::string metrics() const { return "unix:" + directory_ + "/m"; }
  std::string page() const { return http_get(metrics()); }
  double value(const std::string& series) const { return value_of(page(), series); }

  /// Its log goes to log().
  pid_t start_daemon(Children& children, const std::string& programs) const {
    return children.start(programs + "/balloond", {"--config", config()}, log());
  }
  /// Until its page is there.
  bool answers() const {
    return eventually([this] { return !page().empty(); }, seconds(60));
  }

 private:
  std::string directory_;
};

}  // namespace balloon::test
