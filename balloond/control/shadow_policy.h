// SPDX-License-Identifier: Apache-2.0
// A policy's shadow: another policy that decides on what the daemon sees, tick by tick, and moves nothing.
#pragma once

#include <chrono>
#include <map>
#include <string>
#include <vector>

#include "balloond/control/counters.h"
#include "policy/rules/resolver.h"
#include "policy/shadow.h"

namespace balloon::daemon {

class ShadowPolicy {
 public:
  explicit ShadowPolicy(const policy::rules::PolicyFile& policy);

  /// What it would have done with `seen`, by its own limits, beside what the live policy decided. `labels`
  /// are the guests', in the snapshot's order. Counts, and says in the log once a minute what differs.
  void observe(const policy::Snapshot& seen,
               const std::vector<const std::map<std::string, std::string>*>& labels,
               std::chrono::system_clock::time_point wall, const policy::Plan& live, Counters& counters);

 private:
  policy::rules::Resolver resolver_;
  policy::Shadow shadow_;
  policy::Time reported_{};
};

}  // namespace balloon::daemon
