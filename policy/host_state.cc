// SPDX-License-Identifier: Apache-2.0
#include "policy/host_state.h"

#include <algorithm>

namespace balloon::policy {
namespace {

int rank(HostState level) {
  switch (level) {
    case HostState::tight:
      return 1;
    case HostState::critical:
      return 2;
    case HostState::emergency:
      return 3;
    default:
      return 0;
  }
}

constexpr HostState kLevels[] = {HostState::normal, HostState::tight, HostState::critical,
                                 HostState::emergency};

/// By free memory: a state is entered below its own threshold and left above the next milder one.
int by_free(double free, int now, const HostStateRules& rules) {
  const double enter[] = {rules.normal, rules.tight, rules.critical, rules.emergency};
  int level = 0;
  for (int worse = 1; worse <= 3; ++worse) {
    const double threshold = now >= worse ? enter[worse - 1] : enter[worse];
    if (free < threshold) level = worse;
  }
  return level;
}

/// By a figure that is the worse the larger.
int by_rate(double rate, double tight, double critical, int now, double leave_ratio) {
  const auto over = [&](double threshold, int level) {
    return threshold > 0 && rate > (now >= level ? threshold * leave_ratio : threshold);
  };
  return over(critical, 2) ? 2 : over(tight, 1) ? 1 : 0;
}

}  // namespace

Bytes minimum_free(const HostSnapshot& host, Bytes reserve, const Tunables& tunables) {
  if (tunables.states.minimum_free > Bytes{0}) return tunables.states.minimum_free;
  return std::min(sliding_minimum_free(host.total), reserve);
}

HostState HostMonitor::update(const HostSnapshot& host, Time now, Bytes reserve, const Tunables& tunables) {
  const double elapsed = at_ ? std::max(0.0, seconds(since(*at_, now))) : 0.0;
  at_ = now;
  const double swapped = swap_in_.rise(host.swap_in) + swap_out_.rise(host.swap_out);
  if (elapsed > 0) {
    const double kept = decay(seconds(tunables.constants.swap_half_life), elapsed);
    swap_rate_ = swap_rate_ * kept + swapped / elapsed * (1 - kept);
  }
  const auto minimum = static_cast<double>(minimum_free(host, reserve, tunables));
  const double leave = tunables.constants.leave_ratio;
  const int before = rank(level_);
  const int level = std::max(
      {minimum > 0 ? by_free(static_cast<double>(obtainable(host)) / minimum, before, tunables.states) : 0,
       by_rate(swap_rate_, tunables.swap_tight, tunables.swap_critical, before, leave),
       by_rate(host.pressure_some, tunables.pressure_tight, 0, before, leave),
       by_rate(host.pressure_full, 0, tunables.pressure_critical, before, leave)});
  level_ = kLevels[level];
  return level_;
}

const StateActions& actions_in(HostState level, const HostStateActions& actions) {
  switch (level) {
    case HostState::tight:
      return actions.tight;
    case HostState::critical:
      return actions.critical;
    case HostState::emergency:
      return actions.emergency;
    default:
      return actions.normal;
  }
}

}  // namespace balloon::policy
