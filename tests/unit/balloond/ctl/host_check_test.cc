// SPDX-License-Identifier: Apache-2.0
// What `balloonctl host check` finds, on hosts made of literal files.
#include "balloond/ctl/host_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/ethtool.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>

namespace balloon::ctl {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using State = Check::State;

class HostCheckTest : public ::testing::Test {
 protected:
  HostCheckTest() {
    std::string name = (std::filesystem::temp_directory_path() / "host-check-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp");
    root_ = name;
    write("/proc/pressure/memory", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n");
    write("/proc/swaps", "Filename Type Size Used Priority\n/dev/vdb partition 4194304 0 -2\n");
    write("/proc/sys/vm/overcommit_memory", "0\n");
    write("/proc/meminfo", "MemTotal: 8000000 kB\nHugePages_Total:       0\nHugepagesize:       2048 kB\n");
    write("/proc/net/route",
          "Iface\tDestination\tGateway\nbr0\t0000A8C0\t00000000\neth0\t00000000\t0100A8C0\n");
    write("/sys/kernel/mm/ksm/run", "1\n");
    write("/sys/kernel/mm/ksm/pages_sharing", "1234\n");
    write("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
    write("/sys/kernel/mm/transparent_hugepage/defrag", "always [defer] defer+madvise madvise never\n");
    write("/sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n");
    write("/sys/devices/system/node/online", "0\n");
    write("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n");
    write("/sys/module/kvm_intel/parameters/nested", "N\n");
    write("/proc/cpuinfo", "flags : fpu vme constant_tsc nonstop_tsc\n");
    write("/proc/1/comm", "systemd\n");
    write("/proc/700/comm", "balloond\n");
  }
  ~HostCheckTest() override { std::filesystem::remove_all(root_); }

  void write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }
  void remove(const std::string& path) { std::filesystem::remove(root_ + path); }
  std::vector<Check> checks() {
    return check_host(
        {.root = root_,
         .probe = [this](const std::string& device) { return errors_[device]; },
         .offload = [this](const std::string& interface, unsigned command) -> std::optional<bool> {
           if (interface != "eth0") return std::nullopt;
           return !off_.contains(command);
         },
         .interface = interface_});
  }
  Check find(const std::string& name) {
    for (Check& check : checks()) {
      if (check.name == name) return check;
    }
    throw std::runtime_error("no check " + name);
  }
  void expect(const std::string& name, State state, const std::string& advice) {
    const Check check = find(name);
    EXPECT_EQ(check.state, state) << name << ": " << check.found;
    EXPECT_THAT(check.advice, HasSubstr(advice));
    EXPECT_EQ(check.advice.empty(), state == State::ok) << name;
  }

  std::string root_;
  std::map<std::string, int> errors_;
  std::map<unsigned, bool> off_;
  std::optional<std::string> interface_;
};

TEST_F(HostCheckTest, AGoodHostHasNothingToSay) {
  for (const Check& check : checks()) EXPECT_EQ(check.state, State::ok) << check.name << ": " << check.found;
  EXPECT_EQ(find("offloads").found, "eth0: tx, sg, tso, gso, gro");
  EXPECT_EQ(find("KSM").found, "on, 1234 pages saved");
  EXPECT_EQ(find("swap").found, "4 GiB");
}

TEST_F(HostCheckTest, DevicesThatAreAbsentOrClosedAreToldApart) {
  errors_ = {{"/dev/kvm", ENOENT}, {"/dev/net/tun", EACCES}, {"/dev/vhost-net", ENOENT}};
  expect("KVM", State::problem, "load kvm-intel or kvm-amd");
  expect("tun", State::problem, "pass it taps that are open already");
  expect("vhost-net", State::note, "modprobe vhost_net");
  errors_["/dev/kvm"] = EACCES;
  expect("KVM", State::problem, "group kvm");
}

TEST_F(HostCheckTest, AHostWithoutSwapOrPressureIsAProblem) {
  write("/proc/swaps", "Filename Type Size Used Priority\n");
  expect("swap", State::problem, "give the host swap");
  remove("/proc/pressure/memory");
  expect("PSI", State::problem, "psi=1");
  EXPECT_TRUE(has_problem(checks()));
}

TEST_F(HostCheckTest, SwapThatIsAllZramIsNoted) {
  write("/proc/swaps", "Filename Type Size Used Priority\n/dev/zram0 partition 1048576 0 100\n");
  expect("swap", State::note, "on a disk");
}

TEST_F(HostCheckTest, StrictOvercommitIsAProblem) {
  write("/proc/sys/vm/overcommit_memory", "2\n");
  expect("overcommit", State::problem, "vm.overcommit_memory=0");
}

TEST_F(HostCheckTest, HugePagesThatAreSetAsideAreNoted) {
  write("/proc/meminfo", "HugePages_Total:     512\nHugePages_Free:      500\nHugepagesize:       2048 kB\n");
  expect("huge pages", State::note, "vm.nr_hugepages=0");
  EXPECT_THAT(find("huge pages").found, HasSubstr("1 GiB set aside, 1000 MiB of them free"));
}

TEST_F(HostCheckTest, TheDefragAdviceIsThatOfTheOperationsPage) {
  write("/sys/kernel/mm/transparent_hugepage/defrag", "always defer defer+madvise [madvise] never\n");
  expect("THP defrag", State::note, "echo defer >/sys/kernel/mm/transparent_hugepage/defrag");
  write("/sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n");
  expect("THP", State::note, "echo madvise");
}

TEST_F(HostCheckTest, OffloadsThatAreOffComeWithTheCommandThatSwitchesThemOn) {
  off_ = {{ETHTOOL_GTSO, true}, {ETHTOOL_GGSO, true}};
  expect("offloads", State::note, "ethtool -K eth0 tso on gso on");
  interface_ = "absent";
  expect("offloads", State::note, "--interface NAME");
  interface_.reset();
  write("/proc/net/route", "Iface\tDestination\tGateway\n");
  EXPECT_EQ(find("offloads").found, "no default route");
}

TEST_F(HostCheckTest, KernelsWithoutAFeatureAreNoted) {
  std::filesystem::remove_all(root_ + "/sys");
  expect("KSM", State::note, "nothing to do");
  expect("THP", State::note, "nothing to do");
}

TEST_F(HostCheckTest, AClockThatIsNotTheTscIsNoted) {
  write("/sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n");
  expect("TSC", State::note, "tsc=reliable");
  EXPECT_EQ(find("TSC").found, "the clock source is hpet");
  write("/sys/devices/system/clocksource/clocksource0/current_clocksource", "kvm-clock\n");
  expect("TSC", State::ok, "");
}

TEST_F(HostCheckTest, NestedVirtualisationIsNotedWithTheSwitchOfThisHostsModule) {
  write("/sys/module/kvm_intel/parameters/nested", "Y\n");
  expect("nested", State::note, "options kvm_intel nested=0");
  remove("/sys/module/kvm_intel/parameters/nested");
  write("/sys/module/kvm_amd/parameters/nested", "1\n");
  expect("nested", State::note, "options kvm_amd nested=0");
  write("/proc/cpuinfo", "flags : fpu hypervisor svm\n");
  EXPECT_THAT(find("nested").found, HasSubstr("this host is a guest itself"));
}

TEST_F(HostCheckTest, CgroupsOfVersionOneAndWithoutMemoryAreNoted) {
  write("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io pids\n");
  expect("cgroup", State::note, "cgroup_enable=memory");
  remove("/sys/fs/cgroup/cgroup.controllers");
  expect("cgroup", State::note, "systemd.unified_cgroup_hierarchy=1");
}

TEST_F(HostCheckTest, SeveralNumaNodesAreCounted) {
  write("/sys/devices/system/node/online", "0-1,4,8-9\n");
  expect("NUMA", State::note, "leave guests unbound");
  EXPECT_EQ(find("NUMA").found, "5 nodes");
}

TEST_F(HostCheckTest, AnArcThatMayTakeMuchOfTheHostIsNoted) {
  const std::string stats =
      "13 1 0x01 147 39984 4000 5000\nname type data\narc_meta_min 4 7\nc_min 4 268435456\n"
      "c_max 4 4096000000\nsize 4 2147483648\n";
  write("/proc/spl/kstat/zfs/arcstats", stats);
  expect("ZFS", State::note, "zfs_arc_max");
  EXPECT_THAT(find("ZFS").found, HasSubstr("ARC of 2 GiB"));
  write("/proc/spl/kstat/zfs/arcstats", "name type data\nc_max 4 536870912\nsize 4 1048576\n");
  expect("ZFS", State::ok, "");
}

TEST_F(HostCheckTest, OtherControllersThatRunAreNamedWithWhatToDo) {
  write("/proc/812/comm", "ksmtuned\n");
  write("/proc/813/comm", "python3\n");
  write("/proc/813/cmdline", std::string("/usr/bin/python3\0/usr/sbin/momd\0-c\0/etc/mom.conf\0", 49));
  expect("others", State::note, "systemctl disable --now ksmtuned");
  EXPECT_EQ(find("others").found, "ksmtuned (process 812), momd (process 813)");
  EXPECT_THAT(find("others").advice, HasSubstr("momd moves balloons: systemctl disable --now momd mom-vdsm"));
}

TEST_F(HostCheckTest, FilesOfNonsenseHarmNothing) {
  for (const char* path : {"/proc/swaps", "/proc/meminfo", "/proc/net/route", "/proc/cpuinfo", "/proc/1/comm",
                           "/proc/spl/kstat/zfs/arcstats", "/sys/kernel/mm/ksm/run",
                           "/sys/kernel/mm/transparent_hugepage/enabled", "/sys/devices/system/node/online",
                           "/sys/fs/cgroup/cgroup.controllers", "/sys/module/kvm_intel/parameters/nested"})
    write(path, std::string("]][[\0\xff\n\n 99999999999999999999999 x", 32));
  EXPECT_FALSE(check_table(checks(), {}).empty());
}

TEST_F(HostCheckTest, JsonHasEveryCheck) {
  errors_["/dev/kvm"] = ENOENT;
  const auto json = json_of(checks());
  EXPECT_FALSE(json["ok"].get<bool>());
  EXPECT_EQ(json["checks"].size(), checks().size());
  EXPECT_EQ(json["checks"][0]["name"], "KVM");
  EXPECT_EQ(json["checks"][0]["state"], "problem");
  EXPECT_THAT(json["checks"][0]["advice"].get<std::string>(), HasSubstr("kvm-amd"));
}

TEST_F(HostCheckTest, TheTableSaysWhatToDoBelowEachLine) {
  errors_["/dev/kvm"] = ENOENT;
  EXPECT_THAT(
      check_table(checks(), {}),
      HasSubstr(
          "problem  KVM         /dev/kvm: No such file or directory\n                     load kvm-intel"));
}

TEST_F(HostCheckTest, TheLastLineNamesTheProblemsWhichMayHaveGoneByOnASmallTerminal) {
  EXPECT_THAT(check_table(checks(), {}), Not(HasSubstr("Problems:")));
  errors_["/dev/kvm"] = ENOENT;
  remove("/proc/pressure/memory");
  EXPECT_TRUE(check_table(checks(), {}).ends_with("\nProblems: KVM, PSI\n")) << check_table(checks(), {});
}

/// The same as the screens of a terminal (tests/integration/terminal), but of a host that is always the same.
TEST_F(HostCheckTest, TheTableFitsTheTerminal) {
  errors_["/dev/kvm"] = ENOENT;
  remove("/proc/pressure/memory");
  write("/proc/swaps", "Filename Type Size Used Priority\n");
  for (const unsigned columns : {80U, 200U}) {
    const std::string table = check_table(checks(), {.columns = columns, .rows = 24});
    const std::string file = SCREENS "/host-check-" + std::to_string(columns) + ".txt";
    if (std::getenv("UPDATE_SCREENS") != nullptr) std::ofstream(file) << table;
    std::stringstream kept;
    kept << std::ifstream(file).rdbuf();
    EXPECT_EQ(table, kept.str()) << file;
    std::istringstream lines(table);
    for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), columns) << line;
  }
}

}  // namespace
}  // namespace balloon::ctl
