// SPDX-License-Identifier: Apache-2.0
#include "vmm/virtio/fair_mutex.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>
#include <vector>

namespace balloon::vmm {
namespace {

TEST(FairMutex, OneAtATimeHasIt) {
  FairMutex mutex;
  int count = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 10'000; ++round) {
        const std::lock_guard lock(mutex);
        ++count;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(count, 40'000);
}

TEST(FairMutex, WhoWaitsIsNextThoughTheOtherHardlyLetsItGo) {
  FairMutex mutex;
  std::atomic<bool> stop = false;
  std::atomic<int> turns = 0;
  std::thread busy([&] {
    while (!stop) {
      const std::lock_guard lock(mutex);
      ++turns;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
  while (turns < 3) std::this_thread::yield();
  for (int i = 0; i < 20; ++i) {
    const int before = turns;
    const std::lock_guard lock(mutex);
    EXPECT_LE(turns, before + 2) << "the turn under way, and one that may have begun as it came";
  }
  stop = true;
  busy.join();
}

}  // namespace
}  // namespace balloon::vmm
