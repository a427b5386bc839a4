// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/host_processes.h"

#include <gtest/gtest.h>

#include "base/pages.h"
#include "tests/unit/balloond/guests/registry_fixture.h"

namespace balloon::daemon {
namespace {

using HostProcessesTest = RegistryTest;

TEST_F(HostProcessesTest, AProcessesMemoryIsThereOnceHoweverManyGuestsItRegisters) {
  tree_.process(42, "2097152");  // 2 GiB
  for (int i = 0; i < 20; ++i) join("g" + std::to_string(i));
  guests_.refresh();
  policy::Bytes resident{};
  for (const GuestRecord& guest : guests_.list()) resident += guest.on_host.resident;
  EXPECT_LE(resident, 2 * kGiB);
  EXPECT_GE(resident, 2 * kGiB - 20 * kPageSize);
}

TEST_F(HostProcessesTest, AGuestThatIsAloneHasAllOfItsProcess) {
  join();
  tree_.process(42, "2048");
  guests_.refresh();
  EXPECT_EQ(guests_.find("a")->on_host.resident, 2 * kMiB);
}

TEST_F(HostProcessesTest, WhatAProcessCannotHaveDoesNotCount) {
  tree_.write("/proc/42/maps", "7f0000000000-7f0004000000 rw-s 00000000 00:01 9 /memfd:guest\n");  // 64 MiB
  join();
  guests_.refresh();
  const Credit credit = guests_.find("a")->credit;
  EXPECT_LE(credit.counted(2 * kGiB), 72 * kMiB);
  EXPECT_GT(credit.counted(2 * kGiB), 32 * kMiB);
}

TEST_F(HostProcessesTest, GuestsOfOneProcessShareWhatItCanHave) {
  tree_.write("/proc/42/maps", "7f0000000000-7f0080000000 rw-s 00000000 00:01 9 /memfd:guest\n");  // 2 GiB
  for (int i = 0; i < 20; ++i) join("g" + std::to_string(i));
  join("honest", {.pid = 43, .uid = 1000});
  guests_.refresh();
  policy::Bytes counted{};
  for (const GuestRecord& guest : guests_.list())
    if (guest.peer.pid == 42) counted += guest.credit.counted(guest.memory);
  EXPECT_LE(counted, 2 * kGiB * 9 / 8);
  EXPECT_TRUE(guests_.find("honest")->credit.is_full());
}

TEST_F(HostProcessesTest, NoClaimCountsForMoreThanTheHostHas) {
  const auto session = guests_.joined(test::registration("a", 64 * 1024 * kGiB, kGiB), kVmm, channel_);
  ASSERT_TRUE(session);
  guests_.refresh(8 * kGiB);
  EXPECT_LE(guests_.find("a")->credit.counted(64 * 1024 * kGiB), 9 * kGiB);
}

TEST_F(HostProcessesTest, AProcessThatMapsItsGuestsMemoryLaterIsBelievedThen) {
  tree_.write("/proc/42/maps", "7f0000000000-7f0004000000 rw-s 00000000 00:01 9 /memfd:guest\n");
  join();
  guests_.refresh();
  EXPECT_FALSE(guests_.find("a")->credit.is_full());
  tree_.write("/proc/42/maps", "7f0000000000-7f0080000000 rw-s 00000000 00:01 9 /memfd:guest\n");
  tree_.write("/proc/42/status", "Name:\tballoon-vmm\nState:\tS (sleeping)\nVmSize:\t 2097152 kB\n");
  guests_.refresh();
  EXPECT_FALSE(guests_.find("a")->credit.is_full()) << "mappings are read once a second";
  clock_.advance(std::chrono::seconds(1));
  guests_.refresh();
  EXPECT_TRUE(guests_.find("a")->credit.is_full());
}

TEST_F(HostProcessesTest, WhatAProcessReadStandsInForAHypervisorThatNeverCounts) {
  const auto reads = [this](int mib) {
    tree_.write("/proc/42/io", "read_bytes: " + std::to_string((mib * kMiB).count()) + "\n");
    guests_.refresh();
  };
  const auto session = join();
  reads(100);
  reads(130);
  guests_.stats(session, test::sample(2 * kGiB, kGiB, 300 * kMiB));
  EXPECT_EQ(guests_.find("a")->usable->disk_read, 30 * kMiB);

  StatsSample counted = test::sample(2 * kGiB, kGiB, 300 * kMiB);
  counted.disk_read = 7 * kGiB;
  guests_.stats(session, counted);
  EXPECT_EQ(guests_.find("a")->usable->disk_read, 7 * kGiB);
  guests_.stats(session, test::sample(2 * kGiB, kGiB, 300 * kMiB));
  EXPECT_EQ(guests_.find("a")->usable->disk_read, std::nullopt) << "another source's count would be a jump";
}

TEST_F(HostProcessesTest, WhatAProcessOfTwoGuestsReadIsNobodys) {
  const auto session = join();
  join("b");
  for (const int mib : {100, 130}) {
    tree_.write("/proc/42/io", "read_bytes: " + std::to_string((mib * kMiB).count()) + "\n");
    guests_.refresh();
  }
  guests_.stats(session, test::sample(2 * kGiB, kGiB, 300 * kMiB));
  EXPECT_EQ(guests_.find("a")->usable->disk_read, std::nullopt);
}

}  // namespace
}  // namespace balloon::daemon
