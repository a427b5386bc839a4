// SPDX-License-Identifier: Apache-2.0
#include "policy/trust.h"

#include <gtest/gtest.h>

#include "base/bytes.h"

namespace balloon::policy {
namespace {

using std::chrono::seconds;

GuestSnapshot guest(Bytes actual, Bytes available, Bytes resident = {}) {
  GuestSnapshot guest;
  guest.memory = 2 * kGiB;
  guest.actual = guest.target = actual;
  guest.on_host.resident = resident;
  guest.stats = GuestStats{};
  guest.stats->sampled_at = seconds(100);
  guest.stats->actual = actual;
  guest.stats->total = 2 * kGiB;
  guest.stats->available = available;
  return guest;
}

Judgement judged(const GuestSnapshot& guest, Bytes swap_used = {}) {
  return judge(guest, seconds(101), swap_used, {});
}

TEST(Trust, GetsTheSameUseFromBothAccountingsOfDeflateOnOom) {
  auto constant_total = guest(kGiB, 600 * kMiB);
  auto shrinking_total = guest(kGiB, 600 * kMiB);
  shrinking_total.stats->total = kGiB - 50 * kMiB;  // less what its kernel keeps out of it
  EXPECT_EQ(judged(constant_total).used, 424 * kMiB);
  EXPECT_EQ(judged(shrinking_total).used, 424 * kMiB);
}

TEST(Trust, GoesByTheSizeAtTheTimeOfTheSample) {
  auto moved_on = guest(kGiB, 600 * kMiB);
  moved_on.actual = 700 * kMiB;
  EXPECT_EQ(judged(moved_on).used, 424 * kMiB);
}

TEST(Trust, DoesNotBelieveTheImpossible) {
  EXPECT_EQ(judged(guest(kGiB, 600 * kMiB)).trust, Trust::believed);
  EXPECT_EQ(judged(guest(kGiB, 3 * kGiB)).trust, Trust::impossible) << "available above boot memory";
  EXPECT_EQ(judged(guest(kGiB, Bytes::max())).trust, Trust::impossible) << "2^64-1";
  EXPECT_EQ(judged(guest(3 * kGiB, kGiB)).trust, Trust::impossible) << "actual above boot memory";
  auto available_above_total = guest(kGiB, 600 * kMiB);
  available_above_total.stats->total = 500 * kMiB;
  EXPECT_EQ(judged(available_above_total).trust, Trust::impossible);
  auto nothing = guest(kGiB, Bytes{0});
  nothing.stats->available.reset();
  EXPECT_EQ(judged(nothing).trust, Trust::absent);
}

TEST(Trust, DoesNotActOnOldStatistics) {
  EXPECT_EQ(judge(guest(kGiB, 600 * kMiB), seconds(111), Bytes{0}, {}).trust, Trust::stale);
}

TEST(Trust, CapsAClaimOfUseByWhatTheGuestCanHaveTouched) {
  const auto liar = judged(guest(2 * kGiB, Bytes{0}, 300 * kMiB));
  EXPECT_EQ(liar.trust, Trust::limited);
  EXPECT_LT(liar.used, 450 * kMiB);
  EXPECT_EQ(judged(guest(2 * kGiB, Bytes{0}, 2000 * kMiB)).trust, Trust::believed) << "it touched all of it";
}

TEST(Trust, LetsPagesInHostSwapCountAsTouched) {
  auto swapped = guest(2 * kGiB, Bytes{0}, 300 * kMiB);
  swapped.on_host.swapped = 1700 * kMiB;
  EXPECT_EQ(judged(swapped).trust, Trust::believed);
  EXPECT_EQ(judged(guest(2 * kGiB, Bytes{0}, 300 * kMiB), 1700 * kMiB).trust, Trust::believed)
      << "the host has that much in swap, of whomever";
}

TEST(Trust, TakesWhatTheHostSeesOfABlindGuest) {
  GuestSnapshot blind;
  blind.memory = blind.actual = 2 * kGiB;
  EXPECT_FALSE(judge_by_host(blind).usable());
  blind.on_host.resident = 700 * kMiB;
  blind.on_host.swapped = 100 * kMiB;
  EXPECT_EQ(judge_by_host(blind).used, 800 * kMiB);
}

}  // namespace
}  // namespace balloon::policy
