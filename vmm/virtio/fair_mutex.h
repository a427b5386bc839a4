// SPDX-License-Identifier: Apache-2.0
// A mutex that threads get in the order in which they came.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/mutex.h"

namespace balloon::vmm {

/// A device's loop thread lets the mutex go between two turns for a microsecond only; with a std::mutex it
/// would mostly have it again before one who waits has woken up, and so a busy guest could keep others (its
/// own vCPUs, whoever ends the machine) waiting for as long as it likes. Here they are next.
///
/// Each thread draws a number and waits until it is called.
class CAPABILITY("mutex") FairMutex {
 public:
  FairMutex() = default;
  FairMutex(const FairMutex&) = delete;
  FairMutex& operator=(const FairMutex&) = delete;

  void lock() ACQUIRE() {
    const std::uint32_t mine = next_.fetch_add(1, std::memory_order_relaxed);
    for (std::uint32_t called = called_.load(std::memory_order_acquire); called != mine;
         called = called_.load(std::memory_order_acquire)) {
      called_.wait(called, std::memory_order_acquire);
    }
  }
  /// Takes it where nobody has it, nor waits for it.
  bool try_lock() TRY_ACQUIRE(true) {
    std::uint32_t mine = called_.load(std::memory_order_acquire);
    return next_.compare_exchange_strong(mine, mine + 1, std::memory_order_acquire,
                                         std::memory_order_relaxed);
  }
  void unlock() RELEASE() {
    called_.fetch_add(1, std::memory_order_release);
    called_.notify_all();  // free when nobody waits
  }

 private:
  std::atomic<std::uint32_t> next_ = 0;
  std::atomic<std::uint32_t> called_ = 0;
};

}  // namespace balloon::vmm
