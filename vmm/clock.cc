// SPDX-License-Identifier: Apache-2.0
#include "vmm/clock.h"

#include <sys/timerfd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>

namespace balloon::vmm {
namespace {

class SystemClock final : public Clock {
 public:
  Time now() const override { return std::chrono::steady_clock::now(); }

  Result<UniqueFd> alarm() override {
    UniqueFd fd(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
    if (!fd) return fail_errno("creating a timer", errno);
    return fd;
  }

  void set(int alarm, std::chrono::nanoseconds interval) override {
    using std::chrono::seconds;
    const auto whole =
        std::chrono::duration_cast<seconds>(std::max(interval, std::chrono::nanoseconds::zero()));
    const timespec period{.tv_sec = whole.count(),
                          .tv_nsec = std::max<std::int64_t>((interval - whole).count(), 0)};
    const itimerspec setting{.it_interval = period, .it_value = period};
    // The descriptor is a timer and the value is normalised: no error is left.
    ::timerfd_settime(alarm, 0, &setting, nullptr);
  }

  void forget(int /*alarm*/) override {}
};

}  // namespace

Clock& Clock::system() {
  static SystemClock clock;
  return clock;
}

}  // namespace balloon::vmm
