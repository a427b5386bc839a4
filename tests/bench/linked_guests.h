// SPDX-License-Identifier: Apache-2.0
// Guests that are only a link to the daemon and send statistics.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/bench/load.h"
#include "tests/integration/fake_vmm.h"

namespace balloon::test {

/// Each has some threads for its link.
constexpr int kGuestsOfProcess = 100;

inline std::string guest_name(int number) { return fmt::format("guest-{}", number); }

/// Guests [first, first + count), each of which speaks `rate` times a second, at a moment of its own, as
/// guests that started one after the other do.
[[noreturn]] inline void be_guests(const std::string& socket, int first, int count, double rate) {
  std::vector<std::unique_ptr<FakeVmm>> guests;
  for (int i = 0; i < count; ++i) {
    guests.push_back(std::make_unique<FakeVmm>(
        socket, FakeVmm::guest(guest_name(first + i), 64 * kMiB, 64 * kMiB), false));
  }
  const auto between = std::chrono::nanoseconds(static_cast<std::int64_t>(1e9 / rate / count));
  auto next = Clock::now();
  for (std::size_t i = 0;; i = (i + 1) % guests.size(), next += between) {
    std::this_thread::sleep_until(next);
    guests[i]->send_stats(guests[i]->actual() / 2);
    guests[i]->send_counters();
  }
}

/// Starts guest-0 to guest-(count - 1).
inline void start_guests(Children& children, const std::string& socket, int count, double rate = 1) {
  for (int first = 0; first < count; first += kGuestsOfProcess) {
    const int of_this = std::min(kGuestsOfProcess, count - first);
    children.start([=] { be_guests(socket, first, of_this, rate); });
  }
}

/// Those that the daemon has.
inline double linked_guests(const DaemonPlace& daemon) {
  return daemon.value("balloon_backend_guests{backend=\"balloon-vmm\"}");
}

}  // namespace balloon::test
