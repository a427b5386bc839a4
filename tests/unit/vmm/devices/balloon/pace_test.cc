// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/balloon/pace.h"

#include <gtest/gtest.h>

#include "tests/unit/vmm/address_literals.h"

namespace balloon::vmm {
namespace {

using std::chrono_literals::operator""s;

constexpr BalloonPace::Time kStart{std::chrono::hours(1)};

TEST(BalloonPace, ItsRateIsThatOfTheMoveFromTheTargetToTheLastStep) {
  BalloonPace pace;
  pace.at(kStart, kGiB, kGiB);
  EXPECT_EQ(pace.rate(), 0U);
  pace.at(kStart + 10s, kGiB, kGiB / 2);
  pace.at(kStart + 11s, kGiB * 3 / 4, kGiB / 2);
  EXPECT_EQ(pace.rate(), 1_GiB / 4);
  pace.at(kStart + 12s, kGiB / 2, kGiB / 2);
  pace.at(kStart + 60s, kGiB / 2, kGiB / 2);
  EXPECT_EQ(pace.rate(), 1_GiB / 4) << "of the last move";
  pace.at(kStart + 61s, kGiB / 2, kGiB);
  pace.at(kStart + 62s, kGiB, kGiB);
  EXPECT_EQ(pace.rate(), 1_GiB / 2) << "growing as well";
  EXPECT_EQ(pace.stalls(), 0U);
}

TEST(BalloonPace, ABalloonThatStandsStillOffItsTargetStalls) {
  BalloonPace pace;
  pace.at(kStart, kGiB, kGiB);
  pace.at(kStart + 1s, kGiB, kGiB / 2);
  pace.at(kStart + 2s, kGiB - kMiB, kGiB / 2);
  pace.at(kStart + 3s, kGiB - kMiB, kGiB / 2);
  EXPECT_EQ(pace.stalls(), 0U);
  pace.at(kStart + 4s, kGiB - kMiB, kGiB / 2);
  pace.at(kStart + 20s, kGiB - kMiB, kGiB / 2);
  EXPECT_EQ(pace.stalls(), 1U) << "one, however long";
  pace.at(kStart + 21s, kGiB - 2 * kMiB, kGiB / 2);
  pace.at(kStart + 30s, kGiB - 3 * kMiB, kGiB / 2);
  EXPECT_EQ(pace.stalls(), 2U) << "noticed when it moves again";
}

TEST(BalloonPace, ANewTargetHasTimeOfItsOwn) {
  BalloonPace pace;
  pace.at(kStart, kGiB, kGiB);
  for (int second = 1; second < 20; ++second) pace.at(kStart + second * 1s, kGiB, kGiB / 2 - second * kMiB);
  EXPECT_EQ(pace.stalls(), 0U);
}

}  // namespace
}  // namespace balloon::vmm
