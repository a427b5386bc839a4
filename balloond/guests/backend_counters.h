// SPDX-License-Identifier: Apache-2.0
// What there is to see of the backends themselves, for the metrics: whether they reach their hypervisors, and
// how long those take. Written by the backends' threads and under the registry's lock, read by any thread.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string_view>

#include "base/histogram.h"

namespace balloon::daemon {

/// As in Registration::hypervisor.
inline constexpr std::array<std::string_view, 3> kBackends{"balloon-vmm", "qemu", "libvirt"};

/// How a backend reaches what it was told to: guest links, QMP sockets, libvirtds.
struct BackendHealth {
  std::atomic<bool> configured{false};
  std::atomic<std::uint64_t> connected{0};  ///< of them, those that work
  std::atomic<std::uint64_t> failing{0};    ///< and those that do not
  std::atomic<std::uint64_t> errors{0};     ///< connections that failed, fell silent or spoke nonsense
};

/// A hypervisor answers in well under a millisecond when its main loop is free, and in seconds when the host
/// is short of memory; backends give up after 5 s.
inline constexpr std::array<double, 7> kAnswerBuckets{0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10};

/// How hypervisors answered what they were asked.
struct RequestCounters {
  Histogram targets{kAnswerBuckets};  ///< seconds from a size's asking to its answer
  Histogram stats{kAnswerBuckets};    ///< seconds to the answer for statistics: StatsSample::round_trip
  std::atomic<std::uint64_t> refused{0};
};

}  // namespace balloon::daemon
