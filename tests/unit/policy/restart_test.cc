// SPDX-License-Identifier: Apache-2.0
// Invariant 6: a daemon that comes back adopts what it finds without a step.
#include <gtest/gtest.h>

#include "fake_host.h"

namespace balloon::policy {
namespace {

TEST(Restart, MovesNothingOnAHostAtRest) {
  for (const Bytes used : {150 * kMiB, 700 * kMiB, 1000 * kMiB, 1900 * kMiB}) {
    FakeHost host(8 * kGiB);
    for (unsigned i = 0; i < 6; ++i) host.add(2 * kGiB, used + i * 20 * kMiB, {256 * kMiB, 2 * kGiB, 100});
    {
      Engine before({});
      for (int i = 0; i < 200; ++i) host.step(before);
    }
    Engine after({});
    for (int i = 0; i < 5; ++i) {
      host.step(after);
      EXPECT_TRUE(host.last_moves.empty()) << "second " << i << " with " << used / kMiB << " MiB in use";
    }
  }
}

TEST(Restart, GoesOnWithAShrinkThatWasUnderWay) {
  FakeHost host(8 * kGiB);
  for (int i = 0; i < 6; ++i) {
    auto& guest = host.add(2 * kGiB, 300 * kMiB, {256 * kMiB, 2 * kGiB, 100});
    guest.seen.target = kGiB;
    guest.speed = 20 * kMiB;
  }
  Engine after({});
  for (int i = 0; i < 20; ++i) {
    host.step(after);
    for (const auto& guest : host.guests) {
      ASSERT_LE(guest.seen.target, kGiB) << "what was asked for stays asked for";
    }
  }
}

TEST(Restart, TakesNothingForAWhileFromWhoHasMoreThanItNeeds) {
  FakeHost host(16 * kGiB);
  for (int i = 0; i < 6; ++i) host.add(2 * kGiB, 300 * kMiB, {256 * kMiB, 2 * kGiB, 100});
  Engine after({});
  for (int i = 0; i < 9; ++i) {
    host.step(after);
    ASSERT_TRUE(host.last_moves.empty()) << "second " << i;
  }
}

TEST(Restart, StillRescuesAtOnce) {
  FakeHost host(8 * kGiB);
  for (int i = 0; i < 4; ++i) {
    auto& guest = host.add(2 * kGiB, 300 * kMiB, {256 * kMiB, 2 * kGiB, 100});
    guest.seen.actual = guest.seen.target = 600 * kMiB;
  }
  host.guests[0].used = 1500 * kMiB;
  Engine after({});
  host.step(after);
  EXPECT_GE(host.guests[0].seen.target, 1500 * kMiB);
}

}  // namespace
}  // namespace balloon::policy
