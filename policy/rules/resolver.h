// SPDX-License-Identifier: Apache-2.0
// A policy as the daemon asks it every tick: rules are looked at again only for guests that changed, and when
// a schedule begins or ends.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "policy/rules/resolve.h"

namespace balloon::policy::rules {

class Resolver {
 public:
  explicit Resolver(PolicyFile policy);

  /// Before the questions of one tick. O(schedules) once a minute, which is how exact schedules are.
  void at(std::chrono::system_clock::time_point now);
  /// O(rules) for a guest that is new, has other labels or other memory, or when the policy's active
  /// schedules have changed since; else one look-up. Good until the next call of at().
  const policy::GuestLimits& limits(const std::string& name, const std::map<std::string, std::string>& labels,
                                    Bytes memory);
  /// Whether its balloon is to be moved, of a guest that limits() was asked about in this round.
  bool control(const std::string& name) const { return known_.at(name).control; }
  const std::vector<policy::GroupLimits>& groups() const { return groups_; }
  const PolicyFile& policy() const { return policy_; }
  /// How often rules were looked at for a guest.
  std::uint64_t resolutions() const { return resolutions_; }

 private:
  struct Known {
    std::map<std::string, std::string> labels;
    Bytes memory{};
    policy::GuestLimits limits;
    bool control = true;
    std::uint64_t generation = 0;
    std::uint64_t asked = 0;  ///< the round in which it was last asked for
  };

  PolicyFile policy_;
  WallFace face_;
  std::int64_t minute_;
  std::vector<bool> active_;      ///< by schedule, in the order of the file
  std::uint64_t generation_ = 1;  ///< of the active schedules
  std::uint64_t round_ = 0;
  std::size_t asked_this_round_ = 0;
  std::uint64_t resolutions_ = 0;
  std::vector<policy::GroupLimits> groups_;
  std::unordered_map<std::string, Known> known_;  ///< looked up by name only, never gone through in its order
};

}  // namespace balloon::policy::rules
