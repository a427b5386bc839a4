// SPDX-License-Identifier: Apache-2.0
// What the daemon's tests put in place of time, /proc and hypervisors.
#pragma once

#include <filesystem>
#include <fstream>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "balloond/clock.h"
#include "balloond/guests/backend.h"
#include "base/bytes.h"

namespace balloon::daemon::test {

using balloon::kGiB;
using balloon::kMiB;

class FakeClock final : public Clock {
 public:
  Time now() const override { return now_; }
  WallTime wall() const override {
    return WallTime(std::chrono::duration_cast<WallTime::duration>(now_ + kBoot));
  }
  void advance(std::chrono::nanoseconds by) { now_ += by; }

 private:
  static constexpr std::chrono::nanoseconds kBoot = std::chrono::seconds(1'700'000'000);
  Time now_ = std::chrono::seconds(1000);
};

/// A literal tree of files in a temporary directory.
class FakeTree {
 public:
  FakeTree() {
    std::string pattern = (std::filesystem::temp_directory_path() / "balloond-tree-XXXXXX").string();
    root_ = ::mkdtemp(pattern.data());
  }
  ~FakeTree() { std::filesystem::remove_all(root_); }
  FakeTree(const FakeTree&) = delete;
  FakeTree& operator=(const FakeTree&) = delete;

  const std::string& root() const { return root_; }
  void write(const std::string& path, const std::string& text) const {
    const std::filesystem::path file = root_ + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;  // in place: who holds the file open sees the new text
  }
  void host(const std::string& total_kib, const std::string& available_kib) const {
    write("/proc/meminfo",
          "MemTotal:       " + total_kib + " kB\nMemFree:        " + available_kib +
              " kB\nMemAvailable:   " + available_kib +
              " kB\nSwapCached:            0 kB\nSwapTotal:       1048576 kB\nSwapFree:        1048000 kB\n");
    write("/proc/vmstat", "nr_free_pages 1\npswpin 3\npswpout 5\n");
    write("/proc/pressure/memory",
          "some avg10=12.50 avg60=1.00 avg300=0.10 total=7000000\nfull avg10=2.00 avg60=0.50 avg300=0.01 "
          "total=3000000\n");
  }
  /// KSM as it is after boot: stopped, with the kernel's own settings.
  void ksm() const {
    const std::pair<const char*, const char*> files[] = {{"run", "0\n"},
                                                         {"pages_to_scan", "100\n"},
                                                         {"sleep_millisecs", "20\n"},
                                                         {"pages_shared", "0\n"},
                                                         {"pages_sharing", "0\n"},
                                                         {"pages_unshared", "0\n"},
                                                         {"pages_volatile", "0\n"},
                                                         {"full_scans", "0\n"}};
    for (const auto& [file, text] : files) write(std::string("/sys/kernel/mm/ksm/") + file, text);
  }
  void process(int pid, const std::string& resident_kib) const {
    write("/proc/" + std::to_string(pid) + "/status", "Name:\tballoon-vmm\nState:\tS (sleeping)\nVmRSS:\t  " +
                                                          resident_kib + " kB\nVmSwap:\t      16 kB\n");
  }
  void end_process(int pid) const {
    write("/proc/" + std::to_string(pid) + "/status", "Name:\tballoon-vmm\nState:\tZ (zombie)\n");
  }

 private:
  std::string root_;
};

class FakeChannel final : public GuestChannel {
 public:
  struct Asked {
    std::uint64_t sequence;
    policy::Bytes target;
  };
  void ask(const Request& request) override {
    switch (request.kind) {
      case Request::Kind::target:
        return asked.push_back({request.sequence, request.target});
      case Request::Kind::stats:
        return stats_asked.push_back(request.sequence);
      case Request::Kind::merging:
        merging_asked.emplace_back(request.sequence, request.merging);
    }
  }
  void set_stats_interval(std::chrono::nanoseconds interval) override { stats_interval = interval; }

  std::vector<Asked> asked;
  std::vector<std::uint64_t> stats_asked;
  std::vector<std::pair<std::uint64_t, bool>> merging_asked;
  std::chrono::nanoseconds stats_interval{};
};

inline Registration registration(const std::string& name, policy::Bytes memory, policy::Bytes actual) {
  Registration out;
  out.name = name;
  out.memory = memory;
  out.balloon = BalloonState{.actual = actual,
                             .target = actual,
                             .driver_ready = true,
                             .has_stats = true,
                             .deflate_on_oom = true,
                             .free_page_reporting = false,
                             .free_page_hinting = false,
                             .obstacle = {}};
  out.can = {.statistics = true, .on_demand = true, .ksm_switch = true};
  return out;
}

/// A sample without a time: it counts as taken when it is received.
inline StatsSample sample(policy::Bytes memory, policy::Bytes actual, policy::Bytes available) {
  StatsSample out;
  out.actual = actual;
  out.total = memory;
  out.available = available;
  out.free = available;
  out.swap_in = Bytes{0};
  out.swap_out = Bytes{0};
  out.major_faults = 1;
  return out;
}

}  // namespace balloon::daemon::test
