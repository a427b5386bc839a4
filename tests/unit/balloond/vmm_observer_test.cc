// SPDX-License-Identifier: Apache-2.0
#include "balloond/host/vmm_observer.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "balloond/host/pseudo_file.h"
#include "tests/unit/balloond/fakes.h"

namespace balloon::daemon {
namespace {

using test::kGiB;
using test::kMiB;

/// A host with one VMM, process 42, and whatever cgroups a test makes.
class VmmObserverTest : public ::testing::Test {
 protected:
  static constexpr int kPid = 42;

  VmmObserverTest() {
    status(0);
    faults(0);
  }
  void status(int swapped_mib, int pinned_mib = 0, int mapped_mib = 2048) const {
    tree_.write("/proc/42/status",
                "Name:\tvmm\nState:\tS (sleeping)\nVmSize:\t" + std::to_string(mapped_mib * 1024) +
                    " kB\nVmPin:\t" + std::to_string(pinned_mib * 1024) +
                    " kB\nVmRSS:\t 1048576 kB\nVmSwap:\t " + std::to_string(swapped_mib * 1024) + " kB\n");
  }
  void faults(int count, const std::string& name = "balloon-vmm") const {
    tree_.write("/proc/42/stat",
                "42 (" + name + ") S 1 42 42 0 -1 4194560 777 0 " + std::to_string(count) + " 0 12 3\n");
  }
  /// Of memory that may be a guest's, in a process that has `mapped_mib` in all.
  void maps(int guest_mib, int mapped_mib) const {
    tree_.write("/proc/42/maps", fmt::format("7f0000000000-{:x} rw-s 00000000 00:01 9 /memfd:guest\n",
                                             0x7f0000000000 + (std::uint64_t(guest_mib) << 20)));
    status(0, 0, mapped_mib);
  }
  std::optional<policy::Bytes> room() {
    look();
    observer_.look_at_room();
    return observer_.room();
  }
  void member_of(const std::string& path) const {
    tree_.write("/proc/42/cgroup", "1:name=systemd:/else\n0::" + path + "\n");
  }
  void cgroup(const std::string& path, const std::string& processes, int refaults = 0, int below = 0) const {
    const std::string at = "/sys/fs/cgroup" + path;
    tree_.write(at + "/cgroup.procs", processes);
    tree_.write(at + "/cgroup.type", "domain\n");
    tree_.write(at + "/cgroup.stat",
                "nr_descendants " + std::to_string(below) + "\nnr_dying_descendants 7\n");
    tree_.write(at + "/memory.stat", "anon 5\nworkingset_refault_anon " + std::to_string(refaults) +
                                         "\nworkingset_refault_file 100\n");
    tree_.write(at + "/memory.pressure",
                "some avg10=25.00 avg60=1.00 avg300=0.10 total=7000000\nfull avg10=2.00 avg60=0.50 "
                "avg300=0.01 total=3000000\n");
    tree_.write(at + "/memory.swap.current", "67108864\n");
  }
  policy::GuestOnHost look() {
    const auto seen = observer_.look(2 * kGiB);
    EXPECT_TRUE(seen) << "the process lives";
    return seen.value_or(policy::GuestOnHost{});
  }
  /// As it is once the cgroup and its counters are known.
  policy::GuestOnHost settled() {
    for (int i = 0; i < 3; ++i) look();
    return look();
  }

  test::FakeTree tree_;
  VmmObserver observer_ = [this] {
    member_of("/");
    status(0);
    faults(0);
    return VmmObserver(tree_.root(), kPid);
  }();
};

TEST_F(VmmObserverTest, FilesOfTheProgramAreNotTheGuestsMemory) {
  const auto resident = [this](const std::string& more) {
    tree_.write("/proc/42/status", "Name:\tqemu\nState:\tS (sleeping)\nVmRSS:\t 1048576 kB\n" + more);
    return observer_.look(Bytes{0})->resident / kMiB;
  };
  EXPECT_EQ(resident(""), 1024U) << "before Linux 4.5";
  EXPECT_EQ(resident("RssFile:\t 35840 kB\n"), 1024U - 35U) << "they are available to the host";
  EXPECT_EQ(resident("RssFile:\t 35840 kB\nHugetlbPages:\t 2048 kB\n"), 1024U - 35U + 2U);
  EXPECT_EQ(resident("RssFile:\t 65536 kB\n"), 1024U - 64U);
  EXPECT_EQ(resident("RssFile:\t 65540 kB\n"), 1024U) << "a guest's memory in a file";
  tree_.write("/proc/42/status", "Name:\tqemu\nState:\tS (sleeping)\nVmRSS:\t 1024 kB\nRssFile:\t 2048 kB\n");
  EXPECT_EQ(observer_.look(Bytes{0})->resident, Bytes{0}) << "read while it ends";
}

TEST_F(VmmObserverTest, ACgroupOfItsOwnTellsSwapInRefaultsAndPressure) {
  member_of("/vm.slice/web.service");
  cgroup("/vm.slice/web.service", "42\n", 10);
  const auto seen = settled();
  EXPECT_EQ(seen.resident, kGiB);
  EXPECT_EQ(seen.swapped, 64 * kMiB) << "of the cgroup: VmSwap has no shared memory";
  EXPECT_EQ(seen.swap_in, 10 * page_size()) << "before Linux 6.12: what came back that was there before";
  EXPECT_EQ(seen.refaults, 110U);
  EXPECT_EQ(seen.pressure_some, 0.25);
}

TEST_F(VmmObserverTest, ANewerKernelsCountOfSwapInIsTaken) {
  member_of("/web");
  cgroup("/web", "42\n", 10);
  tree_.write("/sys/fs/cgroup/web/memory.stat", "workingset_refault_anon 10\npswpin 33\npswpout 44\n");
  EXPECT_EQ(settled().swap_in, 33 * page_size());
}

TEST_F(VmmObserverTest, TheKernelsThreadsForAGuestAreNobodyElse) {
  member_of("/web");
  cgroup("/web", "42\n77\n78\n", 10);
  // PF_KTHREAD among the flags: as of kvm-nx-lpage-recovery and vhost, whose names may have any character.
  tree_.write("/proc/77/stat", "77 (kvm-nx-lpage) re) S 2 0 0 0 -1 2129984 0 0 0 0 0 0\n");
  tree_.write("/proc/78/stat", "78 (vhost-42) S 2 0 0 0 -1 2129984 0 0 0 0 0 0\n");
  EXPECT_EQ(settled().refaults, 110U);
  EXPECT_EQ(look().pressure_some, 0.25);
  tree_.write("/proc/78/stat", "78 (sleep) S 42 0 0 0 -1 4194304 0 0 0 0 0 0\n");
  cgroup("/web", "42\n78\n", 10);
  EXPECT_EQ(settled().refaults, std::nullopt)
      << "a program, though one of the kernel's threads had its number";
  cgroup("/web", "42\n79\n", 10);
  EXPECT_EQ(settled().refaults, std::nullopt) << "nobody knows what 79 was";
  cgroup("/web", "77\n", 10);
  EXPECT_EQ(settled().refaults, std::nullopt) << "the VMM itself is elsewhere";
}

TEST_F(VmmObserverTest, FiguresOfACgroupThatOthersAreInAreNotItsOwn) {
  member_of("/user.slice");
  cgroup("/user.slice", "7\n42\n", 10);
  EXPECT_EQ(settled().refaults, std::nullopt);
  EXPECT_EQ(look().pressure_some, std::nullopt);
  EXPECT_EQ(look().swapped, Bytes{0});
  cgroup("/user.slice", "42\n", 10);
  EXPECT_EQ(settled().refaults, 110U) << "the others have left";
  cgroup("/user.slice", "42\n", 10, 1);
  EXPECT_EQ(settled().refaults, std::nullopt) << "there are others below it";
}

TEST_F(VmmObserverTest, ThreadsInCgroupsOfTheirOwnAreCountedAbove) {
  member_of("/machine.slice/vm.scope/libvirt/emulator");
  cgroup("/machine.slice/vm.scope/libvirt", "42\n", 3, 5);
  tree_.write("/sys/fs/cgroup/machine.slice/vm.scope/libvirt/cgroup.type", "domain threaded\n");
  tree_.write("/sys/fs/cgroup/machine.slice/vm.scope/libvirt/emulator/cgroup.type", "threaded\n");
  EXPECT_EQ(settled().refaults, 103U);
}

TEST_F(VmmObserverTest, CountersThatBeginAnewAreUnknownOnceAndNeverAJump) {
  member_of("/a");
  cgroup("/a", "42\n", 10);
  ASSERT_EQ(settled().refaults, 110U);
  cgroup("/b", "42\n", 5'000'000);
  member_of("/b");
  EXPECT_EQ(look().refaults, std::nullopt) << "it came to another cgroup";
  EXPECT_EQ(look().refaults, std::nullopt);
  EXPECT_EQ(look().refaults, 5'000'100U);
  tree_.write("/sys/fs/cgroup/b/memory.stat", "");
  EXPECT_EQ(look().refaults, std::nullopt);
  EXPECT_EQ(look().swap_in, std::nullopt);
}

TEST_F(VmmObserverTest, WithoutACgroupItsMajorFaultsCountWhileItHasMemoryInSwap) {
  faults(500);
  EXPECT_EQ(settled().swap_in, Bytes{0}) << "faults on files";
  status(100);
  faults(530);
  EXPECT_EQ(look().swap_in, 30 * page_size());
  status(0);
  faults(540);
  EXPECT_EQ(look().swap_in, 40 * page_size()) << "the last of it";
  faults(900);
  EXPECT_EQ(look().swap_in, 40 * page_size());
  faults(20);
  EXPECT_EQ(look().swap_in, 40 * page_size()) << "a counter that goes back";
  EXPECT_EQ(look().refaults, std::nullopt);
}

TEST_F(VmmObserverTest, ANameOfAProcessMayLookLikeFields) {
  status(100);
  faults(1, "a) S 1 2 3 4 5 6 7 8 9");
  settled();
  faults(3, "a) S 1 2 3 4 5 6 7 8 9");
  EXPECT_EQ(look().swap_in, 2 * page_size());
  tree_.write("/proc/42/stat", "42 (cut off) S 1");
  EXPECT_EQ(look().swap_in, std::nullopt);
}

TEST_F(VmmObserverTest, MappingsAreReadWhereTheSizeOfTheProcessHasChanged) {
  maps(512, 1024);
  EXPECT_EQ(room(), 512 * kMiB);
  maps(768, 1024);
  EXPECT_EQ(room(), 512 * kMiB) << "nothing tells of it";
  maps(768, 1280);
  EXPECT_EQ(room(), 768 * kMiB);
  maps(256, 768);
  EXPECT_EQ(room(), 256 * kMiB);
}

TEST_F(VmmObserverTest, MappingsOfAProcessThatStaysAsLargeAreReadNowAndThen) {
  maps(512, 1024);
  EXPECT_EQ(room(), 512 * kMiB);
  maps(768, 1024);
  int looks = 1;
  while (looks < 100 && room() != 768 * kMiB) ++looks;
  EXPECT_EQ(looks, 30);
}

TEST_F(VmmObserverTest, MemoryThatIsPinnedForDevicesIsSaid) {
  status(0, 16);
  EXPECT_FALSE(look().pinned) << "buffers";
  status(0, 1500);
  EXPECT_TRUE(look().pinned);
}

TEST_F(VmmObserverTest, PathsOutsideAndFilesOfNonsenseAreUnknown) {
  cgroup("", "42\n", 10);
  cgroup("/web", "42\n", 10);
  for (const char* path : {"/", "", "/../web", "/web/../web", "web", "/gone", "/web (deleted)"}) {
    member_of(path);
    EXPECT_EQ(settled().refaults, std::nullopt) << path;
  }
  tree_.write("/proc/42/cgroup", "0::/web");
  EXPECT_EQ(settled().refaults, 110U) << "the end of the line may be missing";
  for (const std::string& nonsense : {std::string(), std::string("\n"), std::string("some avg10="),
                                      std::string(20000, '9'), std::string("workingset_refault_anon -3\n"),
                                      std::string("workingset_refault_anon 99999999999999999999999\n")}) {
    tree_.write("/sys/fs/cgroup/web/memory.stat", nonsense);
    tree_.write("/sys/fs/cgroup/web/memory.pressure", nonsense);
    tree_.write("/sys/fs/cgroup/web/memory.swap.current", nonsense);
    const auto seen = look();
    EXPECT_EQ(seen.refaults, std::nullopt) << nonsense.substr(0, 40);
    EXPECT_EQ(seen.pressure_some, 0.0) << nonsense.substr(0, 40);
    EXPECT_EQ(seen.swapped, Bytes{0}) << nonsense.substr(0, 40);
  }
  for (const char* nonsense : {"", "x", "4242\n", "42\n43\n", "042\n"}) {
    cgroup("/web", nonsense);
    EXPECT_EQ(look().pressure_some, std::nullopt) << nonsense;
  }
}

TEST_F(VmmObserverTest, WithoutPsiTheRestIsKnown) {
  member_of("/web");
  cgroup("/web", "42\n", 10);
  std::filesystem::remove(tree_.root() + "/sys/fs/cgroup/web/memory.pressure");
  EXPECT_EQ(settled().pressure_some, std::nullopt);
  EXPECT_EQ(look().refaults, 110U);
}

TEST_F(VmmObserverTest, ThereIsNothingToSeeOfAProcessThatHasEnded) {
  tree_.end_process(kPid);
  EXPECT_FALSE(observer_.look(kGiB));
  EXPECT_FALSE(observer_.alive());
}

TEST(RealVmmObserverTest, ThisProcessIsSeenAsItIs) {
  VmmObserver observer("", ::getpid());
  for (int i = 0; i < 3; ++i) {
    const auto seen = observer.look(2 * kGiB);
    ASSERT_TRUE(seen);
    EXPECT_GT(seen->resident, Bytes{0});
    EXPECT_LT(seen->pressure_some.value_or(0), 1.01);
    EXPECT_FALSE(seen->pinned);
  }
}

/// What a process whose hypervisor counts no disk reads has read itself.
class DiskReadTest : public VmmObserverTest {
 protected:
  void has_read(int mib) const {
    tree_.write("/proc/42/io",
                fmt::format("rchar: 99\nread_bytes: {}\nwrite_bytes: 7\n", (mib * kMiB).count()));
  }
  std::optional<policy::Bytes> disk_read() {
    look();
    return observer_.disk_read();
  }
};

TEST_F(DiskReadTest, ItIsCountedFromTheFirstLookOn) {
  has_read(500);
  EXPECT_EQ(disk_read(), Bytes{0}) << "what was before is not known to be files of the guest";
  has_read(530);
  EXPECT_EQ(disk_read(), 30 * kMiB);
}

TEST_F(DiskReadTest, WhatCameBackFromSwapIsNoFile) {
  member_of("/web");
  cgroup("/web", "42\n");
  settled();
  has_read(500);
  tree_.write("/sys/fs/cgroup/web/memory.stat", "pswpin 0\n");
  disk_read();
  has_read(510);
  tree_.write("/sys/fs/cgroup/web/memory.stat", fmt::format("pswpin {}\n", 4 * kMiB / page_size()));
  EXPECT_EQ(disk_read(), 6 * kMiB);
}

TEST_F(DiskReadTest, ItIsUnknownWhereItMayNotBeRead) { EXPECT_EQ(disk_read(), std::nullopt); }

TEST_F(DiskReadTest, ACountThatGoesBackAddsNothing) {
  has_read(500);
  disk_read();
  has_read(100);
  EXPECT_EQ(disk_read(), Bytes{0});
  has_read(101);
  EXPECT_EQ(disk_read(), kMiB);
}

}  // namespace
}  // namespace balloon::daemon
