// SPDX-License-Identifier: Apache-2.0
// Waiting for what another thread does.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

namespace balloon::daemon::test {

/// How long a test waits for what is to come before it fails: longer than any machine needs.
inline constexpr std::chrono::seconds kPatience{120};

/// Waits for a count that nobody tells of.
inline void expect_eventually(const std::atomic<std::uint64_t>& count, std::uint64_t expected) {
  const auto end = std::chrono::steady_clock::now() + kPatience;
  while (count != expected && std::chrono::steady_clock::now() < end) std::this_thread::yield();
  EXPECT_EQ(count, expected);
}

}  // namespace balloon::daemon::test
