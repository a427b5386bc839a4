// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/credit.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "balloond/host/guest_room.h"
#include "base/pages.h"
#include "tests/unit/balloond/fakes.h"

namespace balloon::daemon {
namespace {

using test::kGiB;
using test::kMiB;

TEST(CreditTest, WhatAProcessCanHaveCountsInFull) {
  EXPECT_TRUE(Credit::of(2 * kGiB, 2 * kGiB).is_full());
  EXPECT_TRUE(Credit::of(2 * kGiB + 64 * kMiB, 2 * kGiB).is_full()) << "an eighth more is no lie";
}

TEST(CreditTest, ALieCountsForWhatItsProcessCanHave) {
  const Credit credit = Credit::of(64 * kTiB, 34 * kMiB);
  EXPECT_LE(credit.counted(64 * kTiB), 34 * kMiB * 9 / 8);
  EXPECT_GE(credit.counted(64 * kTiB), 17 * kMiB);
}

TEST(CreditTest, TheGreatestLieIsHalvedUntilItsFirstBitIsTheLast) {
  EXPECT_EQ(Credit::of(policy::Bytes::max(), policy::Bytes{}).halvings, 63U);
}

TEST(CreditTest, AnAnswerGoesBackInTheProportionsOfTheClaim) {
  const Credit credit = Credit::of(8 * kGiB, 2 * kGiB);
  EXPECT_EQ(credit.counted(8 * kGiB), 2 * kGiB);
  EXPECT_EQ(credit.claimed(kGiB), 4 * kGiB);
  EXPECT_EQ(credit.counted(credit.claimed(777 * kPageSize)), 777 * kPageSize);
}

TEST(CreditTest, EverySizeOfAGuestIsHalved) {
  policy::GuestSnapshot guest;
  guest.memory = 8 * kGiB;
  guest.actual = 6 * kGiB;
  guest.target = 4 * kGiB;
  guest.on_host.resident = kGiB;
  guest.pin = policy::Pin{.target = 2 * kGiB};
  guest.stats.emplace();
  guest.stats->actual = 6 * kGiB;
  guest.stats->available = 3 * kGiB;
  Credit{.halvings = 1}.apply(guest);
  EXPECT_EQ(guest.memory, 4 * kGiB);
  EXPECT_EQ(guest.actual, 3 * kGiB);
  EXPECT_EQ(guest.target, 2 * kGiB);
  EXPECT_EQ(guest.pin->target, kGiB);
  EXPECT_EQ(guest.stats->actual, 3 * kGiB);
  EXPECT_EQ(guest.stats->available, 3 * kGiB / 2);
  EXPECT_EQ(guest.on_host.resident, kGiB) << "that is the host's word";
}

TEST(GuestRoomTest, LargeMappingsThatCanBeWrittenOrAreSharedCount) {
  EXPECT_EQ(guest_room_in("7f0000000000-7f0080000000 rw-s 00000000 00:01 1024 /memfd:guest (deleted)\n"),
            2 * kGiB);
  EXPECT_EQ(guest_room_in("7f0000000000-7f0040000000 rw-p 00000000 00:00 0\n"), kGiB);
  EXPECT_EQ(guest_room_in("7f0000000000-7f0040000000 r--s 00000000 00:01 9 /memfd:x\n"), kGiB);
}

TEST(GuestRoomTest, StacksLibrariesAndReservedAddressesDoNotCount) {
  EXPECT_EQ(guest_room_in("7f0000000000-7f0000800000 rw-p 00000000 00:00 0 [stack]\n"
                          "7f0100000000-7f0104000000 ---p 00000000 00:00 0\n"
                          "7f0200000000-7f0210000000 r-xp 00000000 08:01 77 /usr/lib/libbig.so\n"),
            Bytes{0});
}

TEST(GuestRoomTest, NeighboursCountAsOneMapping) {
  EXPECT_EQ(guest_room_in("7f0000000000-7f0000800000 rw-p 00000000 00:00 0\n"
                          "7f0000800000-7f0001000000 rw-s 00000000 00:01 9 /memfd:x\n"),
            16 * kMiB);
}

TEST(GuestRoomTest, NonsenseCountsNothing) {
  for (const char* text : {"", "\n\n", "x-y rw-s", "7f0000000000", "7f0000000000-",
                           "7f0080000000-7f0000000000 rw-s 0 0 0", "ffffffffffffffffff-0 rw-s"}) {
    EXPECT_EQ(guest_room_in(text), Bytes{0}) << text;
  }
}

TEST(GuestRoomTest, WithoutMappingsTheSizeOfTheProcessStands) {
  const test::FakeTree tree;
  tree.write("/proc/42/status", "Name:\tvmm\nVmSize:\t    2048 kB\nVmRSS:\t    1024 kB\n");
  EXPECT_EQ(guest_room(tree.root(), 42), 2 * kMiB);
  EXPECT_FALSE(guest_room(tree.root(), 43));
  EXPECT_FALSE(guest_room(tree.root(), 0));
}

TEST(GuestRoomTest, ThisProcessHasRoomForWhatItMaps) {
  const auto before = guest_room("", ::getpid());
  ASSERT_TRUE(before);
  void* const mapped = ::mmap(nullptr, kGiB.count(), PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT_NE(mapped, MAP_FAILED);
  EXPECT_GE(guest_room("", ::getpid()).value_or(Bytes{}), *before + kGiB);
  ::munmap(mapped, kGiB.count());
}

}  // namespace
}  // namespace balloon::daemon
