// SPDX-License-Identifier: Apache-2.0
// A guest that asks a device for as much as the rules allow (greedy_guest.cc) delays nobody else, costs no
// memory, and can be ended. On this host's KVM.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>
#include <x86intrin.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/bytes.h"
#include "tests/bare_metal/line.h"
#include "tests/bare_metal/slowness.h"
#include "tests/bare_metal/tap.h"
#include "tests/integration/process.h"
#include "tests/unit/vmm/machine/bare_kernel.h"

namespace balloon::vmm::test {
namespace {

using balloon::test::Background;
using balloon::test::eventually;
using balloon::test::TemporaryDirectory;
using std::chrono::milliseconds;
using testing::HasSubstr;
using Clock = std::chrono::steady_clock;

/// What nobody may be delayed by more than, on a machine that has nothing else to do; of several tries the
/// median. None may take ten times as long.
constexpr milliseconds kPrompt{100};
/// A turn that is under way, and what it takes to end vCPUs and devices.
constexpr milliseconds kEnd{4000};
constexpr Bytes kMemoryGrowth = 16 * kMiB;
constexpr int kTries = 11;

double ticks_per_millisecond() {
  const auto start = Clock::now();
  const std::uint64_t from = __rdtsc();
  std::this_thread::sleep_for(milliseconds(50));
  const std::chrono::duration<double, std::milli> took = Clock::now() - start;
  return static_cast<double>(__rdtsc() - from) / took.count();
}

Bytes resident_memory(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/statm");
  std::uint64_t size = 0, resident = 0;
  file >> size >> resident;
  return resident * static_cast<Bytes>(::getpagesize());
}

/// How long each of several calls took, in order.
template <typename Call>
std::vector<milliseconds> times(Call call) {
  std::vector<milliseconds> took;
  for (int i = 0; i < kTries; ++i) {
    const auto start = Clock::now();
    call();
    took.push_back(std::chrono::duration_cast<milliseconds>(Clock::now() - start));
  }
  std::ranges::sort(took);
  return took;
}

void expect_prompt(const char* what, const std::vector<milliseconds>& took) {
  const double prompt = kPrompt.count() * slowness();
  EXPECT_LE(took[took.size() / 2].count(), prompt) << what << ": the median, in milliseconds";
  EXPECT_LE(took.back().count(), 10 * prompt) << what << ": the slowest, in milliseconds";
}

struct Greed {
  const char* name;
  const char* command;  ///< of the guest
  std::vector<std::string> flags;
  const char* disk = nullptr;  ///< qemu-img's options for it
  bool net = false;
  friend void PrintTo(const Greed& greed, std::ostream* out) { *out << greed.name; }
};

class GreedyGuestTest : public testing::TestWithParam<Greed> {
 protected:
  void SetUp() override {
    std::ifstream image(GREEDY_GUEST, std::ios::binary);
    const std::vector<std::uint8_t> code{std::istreambuf_iterator<char>(image), {}};
    ASSERT_FALSE(code.empty()) << GREEDY_GUEST;
    const auto kernel = make_kernel(code);
    directory.write("kernel", std::string(kernel.begin(), kernel.end()));
    std::vector<std::string> command{BALLOON_VMM,
                                     "--name=greedy",
                                     "--kernel=" + directory.file("kernel"),
                                     std::string("--cmdline=") + GetParam().command,
                                     "--serial=unix:" + directory.file("serial"),
                                     "--monitor=" + directory.file("monitor"),
                                     "--virtio=modern",
                                     "--no-reboot"};
    for (const std::string& flag : GetParam().flags) command.push_back(flag);
    if (GetParam().disk != nullptr) make_disk(command);
    if (GetParam().net) {
      ASSERT_TRUE(tap.emplace().made())
          << "cannot make a tap in a network namespace: run as root, with /dev/net/tun";
      command.push_back("--net=tap=tapmetal,vhost=off");
    }
    vmm = std::make_unique<Background>(command, directory.file("log"));
    serial = std::make_unique<Line>(directory.file("serial"));
    ASSERT_NE(serial->line_with("ready"), "") << vmm->log();
  }
  void make_disk(std::vector<std::string>& command) const {
    const std::string path = directory.file("disk");
    const std::string make = std::string("qemu-img create -q ") + GetParam().disk + " " + path + " 64M";
    ASSERT_EQ(std::system(make.c_str()), 0) << make;
    const bool qcow2 = std::string_view(GetParam().disk).starts_with("-f qcow2");
    command.push_back("--disk=path=" + path + (qcow2 ? ",format=qcow2" : ",format=raw"));
  }
  /// From now on the device has more to do than it will get done.
  void be_greedy() const {
    serial->send("g");
    ASSERT_NE(serial->line_with("asked"), "") << vmm->log();
  }
  /// Signals an end by `how`; how long it took.
  template <typename How>
  milliseconds end(How how) const {
    const auto start = Clock::now();
    how();
    EXPECT_EQ(vmm->wait(std::chrono::seconds(60)), 0) << vmm->log();
    return std::chrono::duration_cast<milliseconds>(Clock::now() - start);
  }
  std::string monitor_path() const { return directory.file("monitor"); }

  TemporaryDirectory directory;
  std::optional<Tap> tap;
  std::unique_ptr<Background> vmm;
  std::unique_ptr<Line> serial;
};

INSTANTIATE_TEST_SUITE_P(
    Devices, GreedyGuestTest,
    testing::Values(
        Greed{"Console", "console", {"--memory=64MiB", "--console=file:/dev/null"}},
        Greed{"Inflate", "inflate", {"--memory=1GiB"}}, Greed{"Deflate", "deflate", {"--memory=1GiB"}},
        Greed{"Report", "report", {"--memory=1GiB"}},
        Greed{"Entropy", "entropy", {"--memory=64MiB", "--console=file:/dev/null"}},
        Greed{"Read", "read", {"--memory=64MiB"}, "-f raw"},
        Greed{"WriteNewClusters", "write", {"--memory=64MiB"}, "-f qcow2 -o cluster_size=512"},
        Greed{"Zero", "zero", {"--memory=64MiB"}, "-f qcow2 -o compat=0.10,cluster_size=512"},
        Greed{"Discard", "discard", {"--memory=64MiB"}, "-f qcow2 -o cluster_size=2k,preallocation=metadata"},
        Greed{"Frames", "frames", {"--memory=64MiB"}, nullptr, true}),
    [](const auto& greed) { return std::string(greed.param.name); });

TEST_P(GreedyGuestTest, AnotherDeviceOnTheSameLoopAnswersAtOnce) {
  be_greedy();
  const std::string said = serial->line_with("slowest");
  ASSERT_NE(said, "") << "no answers";
  const double slowest = std::stod(said.substr(said.find(' '))) * (1 << 20) / ticks_per_millisecond();
  EXPECT_LE(slowest, 10 * kPrompt.count() * slowness()) << "the slowest of 20 answers, in milliseconds";
}

TEST_P(GreedyGuestTest, TheMonitorGreetsAndAnswersAtOnceAndMemoryStaysWhatItWas) {
  const Bytes before = resident_memory(vmm->pid());
  be_greedy();
  expect_prompt("the greeting", times([&] { EXPECT_NE(Line(monitor_path()).line_with("QMP"), ""); }));
  Line monitor(monitor_path());
  monitor.send("{\"execute\":\"qmp_capabilities\"}\n");
  EXPECT_NE(monitor.line_with("return"), "");
  expect_prompt("query-balloon", times([&] {
                  monitor.send("{\"execute\":\"query-balloon\"}\n");
                  EXPECT_THAT(monitor.line_with("return"), HasSubstr("actual"));
                }));
  Bytes target = 64 * kMiB;
  expect_prompt("a new target", times([&] {
                  target -= kMiB;
                  monitor.send("{\"execute\":\"balloon\",\"arguments\":{\"value\":" +
                               std::to_string(target.count()) + "}}\n");
                  EXPECT_NE(monitor.line_with("return"), "");
                }));
  const Bytes after = resident_memory(vmm->pid());
  EXPECT_LT(after, before + kMemoryGrowth) << "it was " << format_bytes(before);
}

TEST_P(GreedyGuestTest, SigtermEndsIt) {
  be_greedy();
  EXPECT_LE(end([&] { vmm->signal(SIGTERM); }), kEnd * slowness());
}

TEST_P(GreedyGuestTest, QuitEndsIt) {
  be_greedy();
  Line monitor(monitor_path());
  monitor.send("{\"execute\":\"qmp_capabilities\"}\n");
  EXPECT_NE(monitor.line_with("return"), "");
  EXPECT_LE(end([&] { monitor.send("{\"execute\":\"quit\"}\n"); }), kEnd * slowness());
}

}  // namespace
}  // namespace balloon::vmm::test
