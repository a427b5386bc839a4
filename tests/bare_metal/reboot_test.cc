// SPDX-License-Identifier: Apache-2.0
// A guest that reboots again and again: what it keeps is neither lost nor does anything pile up. On this
// host's KVM. BALLOON_REBOOTS: how many times (scripts/nightly.sh: a thousand).
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <ranges>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/bytes.h"
#include "tests/bare_metal/line.h"
#include "tests/bare_metal/tap.h"
#include "tests/integration/process.h"
#include "tests/unit/vmm/machine/bare_kernel.h"

namespace balloon::vmm::test {
namespace {

using balloon::test::Background;
using balloon::test::eventually;
using balloon::test::run;
using balloon::test::TemporaryDirectory;
using nlohmann::json;
using testing::HasSubstr;

int reboots_wanted() {
  const char* const wanted = std::getenv("BALLOON_REBOOTS");
  return wanted == nullptr ? 200 : std::atoi(wanted);
}
/// A reboot takes some 10 ms here, and 250 ms of waiting where a guest reboots by itself; a client's are not
/// slowed down.
constexpr std::chrono::minutes kPatience{15};
/// What the allocator keeps.
constexpr Bytes kGrowth = 4 * kMiB;

/// What each descriptor is of, with one entry for each; numbers are left out.
std::multiset<std::string> open_files(pid_t pid) {
  std::multiset<std::string> files;
  std::error_code gone;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/fd")) {
    std::string of = std::filesystem::read_symlink(entry.path(), gone);
    of = of.substr(0, of.find(" (deleted)"));
    std::erase_if(of, [](char letter) { return letter >= '0' && letter <= '9'; });
    files.insert(std::move(of));
  }
  return files;
}

std::uint64_t of_status(pid_t pid, const std::string& field) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/status");
  for (std::string name; file >> name;) {
    if (name != field + ":") continue;
    std::uint64_t value = 0;
    file >> value;
    return value;
  }
  return 0;
}

std::size_t mappings(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/maps");
  return static_cast<std::size_t>(std::count(std::istreambuf_iterator<char>(file), {}, '\n'));
}

class ManyRebootsTest : public testing::Test {
 protected:
  void SetUp() override {
    write_kernel(directory.file("kernel"), Code().raw({0xeb, 0xfe}));
    const std::string make = "qemu-img create -q -f qcow2 " + directory.file("disk") + " 8M";
    ASSERT_EQ(std::system(make.c_str()), 0) << make;
    ASSERT_TRUE(tap.emplace().made()) << "run as root, with /dev/net/tun";
    vmm = std::make_unique<Background>(
        std::vector<std::string>{BALLOON_VMM, "--name=often", "--memory=64MiB", "--cpus=2",
                                 "--kernel=" + directory.file("kernel"), "--serial=none",
                                 "--console=unix:" + directory.file("console"),
                                 "--monitor=" + directory.file("monitor"), "--net=tap=tapmetal,vhost=off",
                                 "--disk=path=" + directory.file("disk") + ",format=qcow2"},
        directory.file("log"));
    monitor = std::make_unique<Line>(directory.file("monitor"));
    monitor->send(R"({"execute":"qmp_capabilities"})");
    ASSERT_NE(monitor->line_with("return"), "") << vmm->log();
  }
  bool reboot() const {
    const std::string reset = R"({"execute":"system_reset"})";
    monitor->send(reset);
    while (true) {
      const std::string line = monitor->line_with("{");
      if (line.empty() || line.find("\"RESET\"") != std::string::npos) return !line.empty();
      if (line.find("being reset") != std::string::npos)
        monitor->send(reset);  // the next machine is being made
    }
  }
  /// The next machine is made: its vCPUs are there, and for a while nothing is opened any more.
  bool is_made() const {
    return eventually([&] {
      const auto files = open_files(vmm->pid());
      std::this_thread::sleep_for(std::chrono::milliseconds(300));
      return files.count("anon_inode:kvm-vcpu:") == 2 && files == open_files(vmm->pid());
    });
  }
  json answer(const std::string& request) const {
    monitor->send(request);
    return json::parse(monitor->line_with(R"("return")"), nullptr, false);
  }

  TemporaryDirectory directory;
  std::optional<Tap> tap;
  std::unique_ptr<Background> vmm;
  std::unique_ptr<Line> monitor;
};

TEST_F(ManyRebootsTest, NothingPilesUpAndNothingIsLost) {
  const int reboots = reboots_wanted();
  ASSERT_GT(reboots, 0);
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(reboot()) << vmm->log();
  ASSERT_TRUE(is_made()) << vmm->log();
  const pid_t pid = vmm->pid();
  const auto files = open_files(pid);
  const Bytes memory = of_status(pid, "VmRSS") * kKiB;
  const std::uint64_t threads = of_status(pid, "Threads");
  const std::size_t maps = mappings(pid);
  const auto end = std::chrono::steady_clock::now() + kPatience;
  for (int i = 0; i < reboots; ++i) {
    ASSERT_TRUE(reboot()) << "reboot " << i << "\n" << vmm->log();
    ASSERT_LT(std::chrono::steady_clock::now(), end) << "reboot " << i;
  }
  EXPECT_TRUE(eventually([&] { return of_status(pid, "Threads") == threads; }))
      << of_status(pid, "Threads") << " threads, " << threads << " before";
  EXPECT_TRUE(eventually([&] { return open_files(pid) == files; }))
      << "now " << testing::PrintToString(open_files(pid)) << "\nbefore " << testing::PrintToString(files);
  EXPECT_LE(of_status(pid, "VmRSS") * kKiB, memory + kGrowth);
  EXPECT_LE(mappings(pid), maps + 8);
  // What the guest keeps is its own still.
  const auto second = run({BALLOON_VMM, "--name=thief", "--memory=64MiB", "--serial=none",
                           "--kernel=" + directory.file("kernel"),
                           "--disk=path=" + directory.file("disk") + ",format=qcow2"});
  EXPECT_EQ(second.exit_code, 1);
  EXPECT_THAT(second.err, HasSubstr("another VMM has it open"));
  EXPECT_EQ(answer(R"({"execute":"query-block"})")["return"][0]["inserted"]["drv"], "qcow2");
}

TEST_F(ManyRebootsTest, AVmmThatWaitsForTheImageNeverGetsIt) {
  // Each of them tries for a second, again and again, while the guest reboots.
  std::vector<std::unique_ptr<Background>> thieves(3);
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(6);
  int tries = 0;
  while (std::chrono::steady_clock::now() < end || tries <= 6) {
    for (std::size_t i = 0; i < thieves.size(); ++i) {
      if (thieves[i] && thieves[i]->running()) continue;
      if (thieves[i]) {
        ASSERT_EQ(thieves[i]->wait(), 1) << thieves[i]->log();
        ASSERT_THAT(thieves[i]->log(), HasSubstr("another VMM has it open"));
      }
      ++tries;
      thieves[i] = std::make_unique<Background>(
          std::vector<std::string>{BALLOON_VMM, "--name=thief", "--memory=64MiB", "--serial=none",
                                   "--kernel=" + directory.file("kernel"),
                                   "--disk=path=" + directory.file("disk") + ",format=qcow2"},
          directory.file("thief" + std::to_string(i)));
    }
    ASSERT_TRUE(reboot()) << vmm->log();
  }
  for (const auto& thief : thieves) {
    EXPECT_EQ(thief->wait(), 1) << thief->log();
    EXPECT_THAT(thief->log(), HasSubstr("another VMM has it open"));
  }
  EXPECT_TRUE(vmm->running()) << vmm->log();
}

}  // namespace
}  // namespace balloon::vmm::test
