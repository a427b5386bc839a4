// SPDX-License-Identifier: Apache-2.0
// A history of needs, by the test's clock.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "balloond/needs/need_history.h"
#include "tests/unit/balloond/fakes.h"

namespace balloon::daemon::test {

struct Needing {
  std::string name;
  Bytes need{};
};

class NeedsTest : public ::testing::Test {
 protected:
  static GuestStatus guest(const Needing& of) {
    GuestStatus guest;
    guest.record.name = of.name;
    guest.record.connected = true;
    guest.plan.need = of.need;
    guest.plan.why.source = policy::Source::statistics;
    return guest;
  }
  void observe(NeedHistory& history, const std::vector<Needing>& guests) const {
    State state;
    state.at = clock_.now();
    state.wall = clock_.wall();
    for (const Needing& each : guests) state.guests.push_back(guest(each));
    history.observe(state);
  }
  /// A decision each minute.
  void live(NeedHistory& history, std::chrono::minutes time, const std::vector<Needing>& guests) {
    for (std::chrono::minutes gone{}; gone < time; ++gone) {
      clock_.advance(std::chrono::minutes(1));
      observe(history, guests);
    }
  }
  static NeedsByWindow needs_of(NeedHistory& history, const std::string& name) {
    history.renew();
    const auto figures = history.figures();
    const auto found = figures->find(name);
    return found == figures->end() ? NeedsByWindow{} : found->second;
  }
  /// The clock's next midnight.
  void until_midnight() {
    const auto wall = clock_.wall();
    clock_.advance(std::chrono::ceil<std::chrono::days>(wall) - wall);
  }

  FakeClock clock_;
};

inline constexpr std::size_t kDayWindow = 0, kWeekWindow = 1, kMonthWindow = 2;

}  // namespace balloon::daemon::test
