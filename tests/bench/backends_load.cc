// SPDX-License-Identifier: Apache-2.0
// What many guests of QEMU cost a daemon: QMP sockets that say what a real QEMU said, on sockets of the
// daemon's own, asked each second, or shared ones, asked every 8 s.
//   backends_load PROGRAMS exclusive|shared [GUESTS [SECONDS]]
// Prints one line of JSON. Exit status 1 when not all guests could be reached, or a bar for 1,000 of them is
// missed.
#include <cstring>
#include <map>

#include "tests/bench/load.h"
#include "tests/bench/qmp_doubles.h"

namespace balloon::test {
namespace {

// What is asked of the daemon.
constexpr double kLatenessMax = 0.050;  // seconds, of 99 of 100 rounds
constexpr double kCoreMax = 0.35;
constexpr double kMemoryMax = 150e6;  // bytes

/// How late rounds of control began, in seconds: the bounds of the histogram's buckets, and how many rounds
/// were at most so late.
std::map<double, double> lateness_of(const std::string& page) {
  std::map<double, double> rounds;
  const std::string bucket = "balloon_control_loop_lateness_seconds_bucket{le=\"";
  for (std::size_t at = page.find(bucket); at != std::string::npos; at = page.find(bucket, at + 1)) {
    const char* const text = page.c_str() + at + bucket.size();
    char* end = nullptr;
    const double bound = std::strtod(text, &end);
    rounds[bound] = std::strtod(std::strchr(end, ' '), nullptr);
  }
  return rounds;
}

/// The bound of the bucket that has the 99th of each hundred rounds between two pages.
double p99_of(const std::string& before, const std::string& after) {
  const auto from = lateness_of(before);
  auto to = lateness_of(after);
  for (auto& [bound, rounds] : to) rounds -= from.at(bound);
  const double all = to.empty() ? 0 : to.rbegin()->second;
  for (const auto& [bound, rounds] : to) {
    if (rounds >= 0.99 * all) return bound;
  }
  return 0;
}

int run(const std::string& programs, bool exclusive, int guests, int time) {
  const DaemonPlace daemon(
      "backends_load",
      fmt::format("backends: {{{{qmp: [{{{{directory: {{0}}/q, pattern: '*.qmp', exclusive: {}}}}}]}}}}\n",
                  exclusive));
  fs::create_directory(daemon.directory() + "/q");
  Children children;
  children.start([&] { QmpDoubles(daemon.directory() + "/q", guests).serve(); });
  daemon.start_daemon(children, programs);
  if (!daemon.answers()) return 1;
  const auto connected = [&] { return daemon.value("balloon_backend_guests{backend=\"qemu\"}"); };
  eventually([&] { return connected() == guests; }, seconds(120));
  std::this_thread::sleep_for(seconds(10));  // each of the shared ones has had its turn, and is at rest
  const double there = connected();
  const std::string before = daemon.page();
  std::this_thread::sleep_for(seconds(time));
  const std::string after = daemon.page();
  const auto more = [&](const std::string& name) { return value_of(after, name) - value_of(before, name); };
  const double cpu = more("process_cpu_seconds_total") / time;
  const double resident = value_of(after, "process_resident_memory_bytes");
  const double lateness = p99_of(before, after);
  fmt::print(
      "{{\"sockets\":\"{}\",\"guests\":{},\"seconds\":{},\"cpu_of_a_core\":{:.3f},\"resident_mib\":{:.0f},"
      "\"p99_lateness_ms_at_most\":{:g},\"mean_lateness_ms\":{:.2f},\"blind_guests\":{:g},\"errors\":{:g}}}"
      "\n",
      exclusive ? "exclusive" : "shared", there, time, cpu, resident / (1 << 20), 1e3 * lateness,
      1e3 * more("balloon_control_loop_lateness_seconds_sum") /
          std::max(1.0, more("balloon_control_loop_lateness_seconds_count")),
      value_of(after, "balloon_guests_blind"), more("balloon_backend_errors_total{backend=\"qemu\"}"));
  return there == guests && lateness <= kLatenessMax && cpu <= kCoreMax && resident <= kMemoryMax ? 0 : 1;
}

}  // namespace
}  // namespace balloon::test

int main(int count, char** arguments) {
  const std::string_view sockets = count < 3 ? "" : arguments[2];
  if (sockets != "exclusive" && sockets != "shared") {
    fmt::print(stderr, "backends_load PROGRAMS exclusive|shared [GUESTS [SECONDS]]\n");
    return 2;
  }
  const auto number = [&](int at, int otherwise) {
    return std::max(1, static_cast<int>(balloon::test::number_of(count, arguments, at, otherwise)));
  };
  return balloon::test::run(arguments[1], sockets == "exclusive", number(3, 1000), number(4, 30));
}
