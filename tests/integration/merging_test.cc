// SPDX-License-Identifier: Apache-2.0
// KSM for one guest, from the command line to the kernel: balloonctl, balloond, a balloon-vmm with a guest on
// this host's KVM, and what the kernel says of its memory.
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <sstream>

#include "base/unique_fd.h"
#include "tests/integration/daemon_fixture.h"
#include "tests/unit/vmm/machine/bare_kernel.h"

namespace balloon::test {
namespace {

/// On both sides of the PCI hole; nothing of it is touched.
constexpr std::uint64_t kMemory = 4 * kGiB;

/// How much of a process's address space is open to KSM: VM_MERGEABLE is shown as "mg"
/// (Documentation/filesystems/proc.rst).
std::uint64_t mergeable_bytes(pid_t pid) {
  std::istringstream smaps(read_text("/proc/" + std::to_string(pid) + "/smaps"));
  std::string line;
  std::uint64_t size = 0, sum = 0;
  while (std::getline(smaps, line)) {
    if (line.starts_with("Size:")) size = std::stoull(line.substr(5)) * 1024;
    if (line.starts_with("VmFlags:") && (line + " ").find(" mg ") != std::string::npos) sum += size;
  }
  return sum;
}

/// A daemon, and one guest that sleeps for ever.
class MergingTest : public DaemonTest {
 protected:
  void run_guest(const std::vector<std::string>& more = {}) {
    const auto kernel = vmm::test::make_kernel(vmm::test::Code().halt().bytes());
    directory_.write("kernel", std::string(kernel.begin(), kernel.end()));
    std::vector<std::string> command{BALLOON_VMM,
                                     "--name=metal",
                                     "--memory=4GiB",
                                     "--kernel=" + directory_.file("kernel"),
                                     "--serial=none",
                                     "--link=" + socket(),
                                     "--monitor=" + directory_.file("monitor")};
    command.insert(command.end(), more.begin(), more.end());
    vmm_ = std::make_unique<Background>(command, directory_.file("vmm-log"));
    ASSERT_TRUE(eventually([&] { return !state_of("metal").empty(); })) << vmm_->log() << daemon_->log();
  }
  std::uint64_t mergeable() const { return mergeable_bytes(vmm_->pid()); }
  nlohmann::json shown() const { return ctl_json({"show", "metal"}).at("merging"); }
  bool shows(bool merging) const {
    return eventually([&] { return shown() == merging; });
  }
  std::string events() const { return daemon_->log() + vmm_->log(); }
  /// Through the monitor, as a reset button does.
  void reset_guest() const {
    const UniqueFd client(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, directory_.file("monitor").c_str(), sizeof address.sun_path - 1);
    ASSERT_EQ(::connect(client.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    const std::string text = "{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"system_reset\"}\n";
    ASSERT_EQ(::send(client.get(), text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
    ASSERT_TRUE(eventually([&] { return vmm_->log().find("reboots") != std::string::npos; })) << vmm_->log();
  }

  std::unique_ptr<Background> vmm_;
};

TEST_F(MergingTest, TurnedOnAllOfTheGuestsMemoryIsOpenToKsmAndTurnedOffNoneIs) {
  run_guest();
  EXPECT_EQ(shown(), false) << "as it was started";
  EXPECT_EQ(mergeable(), 0U);
  for (int round = 0; round < 2; ++round) {
    ASSERT_EQ(ctl({"merge", "metal", "on"}).exit_code, 0);
    ASSERT_TRUE(shows(true)) << events();
    EXPECT_EQ(mergeable(), kMemory);
    ASSERT_EQ(ctl({"merge", "metal", "off"}).exit_code, 0);
    ASSERT_TRUE(shows(false)) << events();
    EXPECT_EQ(mergeable(), 0U);
  }
}

TEST_F(MergingTest, ItStaysAsItIsWithAnotherDaemonAndThroughAReboot) {
  run_guest();
  ASSERT_EQ(ctl({"merge", "metal", "on"}).exit_code, 0);
  ASSERT_TRUE(shows(true)) << events();
  daemon_->signal(SIGKILL);
  ASSERT_EQ(daemon_->wait(), 128 + SIGKILL);
  EXPECT_EQ(mergeable(), kMemory);
  start();
  ASSERT_TRUE(eventually([&] { return !state_of("metal").empty(); })) << events();
  EXPECT_EQ(shown(), true) << "the guest tells a daemon that did not turn it on";
  EXPECT_EQ(mergeable(), kMemory);
  reset_guest();
  ASSERT_TRUE(eventually([&] { return mergeable() == kMemory; })) << events();
  ASSERT_EQ(ctl({"merge", "metal", "off"}).exit_code, 0);
  ASSERT_TRUE(shows(false)) << events();
  EXPECT_EQ(mergeable(), 0U);
}

TEST_F(MergingTest, MemoryThatKsmCannotShareIsRefusedWithTheReason) {
  run_guest({"--memory-backing=shared=on"});
  ASSERT_EQ(ctl({"merge", "metal", "on"}).exit_code, 0) << "its VMM is asked";
  ASSERT_TRUE(eventually([&] { return ctl_json({"show", "metal"}).at("merging_refusal") != ""; }))
      << events();
  EXPECT_NE(ctl({"show", "metal"})
                .out.find("off (its VMM refused the change: memory: merge works for private "
                          "memory only, and not for pages of a pool)"),
            std::string::npos)
      << ctl({"show", "metal"}).out;
  EXPECT_EQ(mergeable(), 0U);
}

TEST_F(MergingTest, PolicyKeepsAGuestFromKsmThatWasStartedWithIt) {
  run_guest({"--memory-backing=merge=on"});
  EXPECT_EQ(shown(), true);
  EXPECT_EQ(mergeable(), kMemory);
  write_policy("guests: [{name: \"met*\", ksm: off}]\n");
  daemon_->signal(SIGHUP);
  ASSERT_TRUE(shows(false)) << events();
  EXPECT_EQ(mergeable(), 0U);
  const Outcome refused = ctl({"merge", "metal", "on"});
  EXPECT_EQ(refused.exit_code, 4);
  EXPECT_EQ(refused.err, "balloonctl: policy keeps metal's memory from KSM (ksm: off)\n");
}

}  // namespace
}  // namespace balloon::test
