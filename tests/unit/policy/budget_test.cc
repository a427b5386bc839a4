// SPDX-License-Identifier: Apache-2.0
#include "policy/budget.h"

#include <gtest/gtest.h>

#include "base/bytes.h"

namespace balloon::policy {
namespace {

Snapshot host_with(Bytes available, Bytes resident, Bytes swapped = {}) {
  Snapshot snapshot;
  snapshot.host.total = 8 * kGiB;
  snapshot.host.available = available;
  GuestSnapshot guest;
  guest.memory = guest.actual = guest.target = 6 * kGiB;
  guest.on_host.resident = resident;
  guest.on_host.swapped = swapped;
  snapshot.guests.push_back(guest);
  return snapshot;
}

TEST(Budget, IsWhatGuestsHoldAndTheHostHasLessTheReserve) {
  EXPECT_EQ(Budget().update(host_with(3 * kGiB, 4 * kGiB), {}, 1, {}), 7 * kGiB - 400 * kMiB);
}

TEST(Budget, NeverCountsWhatOnlySwapProvides) {
  EXPECT_EQ(Budget().update(host_with(kGiB, 4 * kGiB, 2 * kGiB), {}, 1, {}), 5 * kGiB - 400 * kMiB);
}

TEST(Budget, CountsWhatZfsCacheWouldGiveBackAsAvailable) {
  Snapshot snapshot = host_with(kGiB, 4 * kGiB);
  snapshot.host.arc = 2 * kGiB;
  EXPECT_EQ(Budget().update(snapshot, {}, 1, {}), 7 * kGiB - 400 * kMiB);
  snapshot.reservations.emplace_back();
  EXPECT_EQ(Budget().update(snapshot, {}, 1, {}), 5 * kGiB - 400 * kMiB) << "a promise needs what is there";
  snapshot.reservations.clear();
  snapshot.host.arc = Bytes::max();
  EXPECT_EQ(Budget().update(snapshot, {}, 1, {}), 8 * kGiB - 400 * kMiB) << "no more than the host has";
}

TEST(Budget, TakesOfAProcessNoMoreThanTheGuestsSize) {
  EXPECT_EQ(Budget().update(host_with(kGiB, Bytes::max()), {}, 1, {}), 7 * kGiB - 400 * kMiB);
}

TEST(Budget, FallsAtOnceAndRisesSlowly) {
  Budget budget;
  budget.update(host_with(3 * kGiB, 4 * kGiB), {}, 0, {});
  const Bytes low = budget.update(host_with(kGiB, 4 * kGiB), {}, 1, {});
  EXPECT_EQ(low, 5 * kGiB - 400 * kMiB);
  const Bytes after = budget.update(host_with(3 * kGiB, 4 * kGiB), {}, 1, {});
  EXPECT_NEAR(static_cast<double>(after - low), 0.05 * static_cast<double>(8 * kGiB), 4096);
}

TEST(Budget, IsAtMostAllThatThereIsWithTheReserve) {
  Budget budget;
  budget.update(host_with(3 * kGiB, 3 * kGiB), {}, 1, {});
  EXPECT_EQ(budget.most(), 6 * kGiB);
  EXPECT_LT(budget.update(host_with(3 * kGiB, 2 * kGiB), {}, 1, {}), 5 * kGiB);
  EXPECT_EQ(budget.most(), 5 * kGiB);
}

TEST(Budget, CreditsMergedPagesOnceAndInPart) {
  Snapshot merged = host_with(3 * kGiB, 4 * kGiB);
  merged.guests[0].actual = merged.guests[0].target = 7 * kGiB;
  merged.host.ksm = KsmSnapshot{.running = true, .shared = 100 * kMiB, .sharing = kGiB};
  // 4 GiB resident stand for 3 GiB of memory: with 3 GiB available, 6 GiB and half of what is saved.
  EXPECT_EQ(Budget().update(merged, {}, 1, {}), 6 * kGiB + 512 * kMiB - 400 * kMiB);
}

}  // namespace
}  // namespace balloon::policy
