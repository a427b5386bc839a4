// SPDX-License-Identifier: Apache-2.0
// A day of decisions needs no more memory than an hour of them.
#include <gtest/gtest.h>
#include <malloc.h>

#include "random_host.h"

namespace balloon::policy {
namespace {

/// One decision a second; fewer where code is instrumented.
constexpr int kHour = 3'600;
constexpr int kDay = kSanitized ? 2 * kHour : 24 * kHour;
/// What test and allocator themselves may come to hold.
constexpr std::size_t kNoise = 256 << 10;

std::size_t bytes_in_use() { return mallinfo2().uordblks; }

TEST(Steady, ADayOfDecisionsLeavesNoMoreAllocatedThanAnHour) {
  FakeHost host(64 * kGiB);
  for (int i = 0; i < 50; ++i) host.add(2 * kGiB, 300 * kMiB, {256 * kMiB, 2 * kGiB, 100});
  Engine engine({});
  std::size_t after_an_hour = 0;
  for (int second = 0; second < kDay; ++second) {
    const auto busy = static_cast<std::size_t>(second / 97 % 50);
    host.guests[busy].used = second % 2 == 0 ? 1500 * kMiB : 300 * kMiB;
    // Guests come and go under new names all day.
    host.guests[49].seen.name = fmt::format("passing-{}", second / 60);
    if (second % 300 == 0) host.reservations = {{fmt::format("r{}", second), kGiB, kGiB, 100, host.now}};
    host.step(engine);
    if (second == kHour) after_an_hour = bytes_in_use();
  }
  EXPECT_LE(bytes_in_use(), after_an_hour + kNoise);
}

}  // namespace
}  // namespace balloon::policy
