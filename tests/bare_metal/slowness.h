// SPDX-License-Identifier: Apache-2.0
// How slow this machine is at the moment, for limits of time that other work on it must not break.
#pragma once

#include <algorithm>
#include <chrono>
#include <ctime>

namespace balloon::vmm::test {

/// How many times as long as on a machine that does nothing else work takes on this one now.
inline double slowness() {
  // Longer than a scheduler lets one thread go on where others wait.
  constexpr std::clock_t kWork = CLOCKS_PER_SEC / 5;
  const auto start = std::chrono::steady_clock::now();
  const std::clock_t from = std::clock();
  while (std::clock() - from < kWork) {
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  return std::max(1.0, took.count() * CLOCKS_PER_SEC / static_cast<double>(kWork));
}

}  // namespace balloon::vmm::test
