// SPDX-License-Identifier: Apache-2.0
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "balloond/metrics/families.h"

namespace balloon::daemon {
namespace {

struct SelfStat {
  double cpu_seconds = 0;
  double start_seconds = 0;  ///< since the epoch
  double virtual_bytes = 0;
  double resident_bytes = 0;
};

double now_less_uptime() {
  timespec boot{};
  ::clock_gettime(CLOCK_BOOTTIME, &boot);
  const double now =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  return now - static_cast<double>(boot.tv_sec) - static_cast<double>(boot.tv_nsec) / 1e9;
}

/// /proc/self/stat, fields as numbered in proc(5): 14 utime, 15 stime, 22 starttime, 23 vsize, 24 rss.
SelfStat read_self() {
  static const double boot_time = now_less_uptime();
  std::ifstream file("/proc/self/stat");
  std::string line;
  std::getline(file, line);
  SelfStat self;
  const std::size_t name_end = line.rfind(')');
  if (name_end == std::string::npos) return self;
  std::istringstream fields(line.substr(name_end + 1));
  const auto ticks = static_cast<double>(::sysconf(_SC_CLK_TCK));
  std::string field;
  for (int number = 3; number <= 24 && fields >> field; ++number) {
    const double value = number == 3 ? 0 : std::strtod(field.c_str(), nullptr);
    if (number == 14 || number == 15) self.cpu_seconds += value / ticks;
    if (number == 22) self.start_seconds = boot_time + value / ticks;
    if (number == 23) self.virtual_bytes = value;
    if (number == 24) self.resident_bytes = value * static_cast<double>(::sysconf(_SC_PAGESIZE));
  }
  return self;
}

double count_open_fds() {
  std::error_code error;
  double count = 0;
  for (auto entry = std::filesystem::directory_iterator("/proc/self/fd", error);
       !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    ++count;
  }
  return count;
}

}  // namespace

void add_process_metrics(Families& families) {
  const SelfStat self = read_self();
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  families.counter("process_cpu_seconds_total", "User and system CPU time of balloond.", self.cpu_seconds);
  families.gauge("process_resident_memory_bytes", "Resident memory of balloond.", self.resident_bytes);
  families.gauge("process_virtual_memory_bytes", "Virtual memory of balloond.", self.virtual_bytes);
  families.gauge("process_start_time_seconds", "When balloond started, in seconds since the epoch.",
                 self.start_seconds);
  families.gauge("process_open_fds", "Open file descriptors of balloond.", count_open_fds());
  families.gauge("process_max_fds", "Most file descriptors that balloond may open.",
                 static_cast<double>(files.rlim_cur));
}

}  // namespace balloon::daemon
