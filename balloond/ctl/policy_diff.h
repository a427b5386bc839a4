// SPDX-License-Identifier: Apache-2.0
// What differs between two policies, by their rules and for guests.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "policy/rules/resolve.h"

namespace balloon::ctl {

/// A key with both values as text; empty where it is not said.
struct Difference {
  std::string key;  ///< "engine.hold", "groups[batch].weight", "guests[web-*].min"
  std::string before;
  std::string after;
};

/// Every value that the two say differently. Groups go by their names and guests' rules by whom they select;
/// that rules which both have stand in another order is a difference by itself, since the first that fits
/// counts.
std::vector<Difference> rule_differences(const policy::rules::PolicyFile& before,
                                         const policy::rules::PolicyFile& after);

/// A guest to be judged by both.
struct Subject {
  std::string name;
  std::map<std::string, std::string> labels;
  Bytes memory{};
};

struct GuestDifference {
  std::string guest;
  std::vector<Difference> values;  ///< by key: group, min, max, weight, margin_factor, ksm
};

/// The guests that would be granted something else at the time of `face`.
std::vector<GuestDifference> guest_differences(const policy::rules::PolicyFile& before,
                                               const policy::rules::PolicyFile& after,
                                               const std::vector<Subject>& guests,
                                               const policy::rules::WallFace& face);

}  // namespace balloon::ctl
