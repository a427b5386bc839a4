// SPDX-License-Identifier: Apache-2.0
// What a policy grants a guest or a group at a time, and which of its rules says so.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "policy/rules/policy_file.h"
#include "policy/types.h"

namespace balloon::policy::rules {

/// One value and who said it.
template <typename T>
struct Term {
  T value{};
  const Place* place = nullptr;  ///< null: built in
  bool by_class = false;         ///< by the class that is said at `place`, not by a value of its own
};

struct Terms {
  Term<SizeRule> min;
  Term<SizeRule> max;
  Term<std::uint32_t> weight;
  Term<SloClass> slo_class;
  Term<bool> ksm;
  Term<double> margin_factor;
  Term<bool> control;  ///< balloond moves its balloon; else it leaves it alone
  Term<LimitsOf> limits;
};

/// Terms point into the policy.
struct Resolution {
  const GuestRule* rule = nullptr;   ///< null: none fits
  const GroupRule* group = nullptr;  ///< null: a group of its own
  Terms terms;
  policy::GuestLimits limits;  ///< whole pages, min <= max <= memory
};

/// The place that speaks at each layer, outermost first: a layer's values, then those of its active schedule.
struct Voice {
  const Place* place = nullptr;
  const Values* values = nullptr;
};

/// The innermost voice that says a thing counts. A class speaks where it is said, before what stands beside
/// it.
Terms settle(const std::vector<Voice>& voices);

/// The rule that fits a guest.
const GuestRule* find_rule(const PolicyFile& policy, const std::string& name,
                           const std::map<std::string, std::string>& labels);

/// The layers that count for guests of `rule` (null: that no rule fits), outermost first.
std::vector<const Layer*> layers_of(const PolicyFile& policy, const GuestRule* rule);
/// The layers of a group's own part.
std::vector<const Layer*> layers_of(const PolicyFile& policy, const GroupRule& group);

Resolution resolve_terms(const PolicyFile& policy, const std::string& name,
                         const std::map<std::string, std::string>& labels, Bytes memory,
                         const WallFace& face);

/// What `policy` grants a guest: whole pages, min <= max <= memory.
policy::GuestLimits resolve(const PolicyFile& policy, const std::string& name,
                            const std::map<std::string, std::string>& labels, Bytes memory,
                            const WallFace& face);

/// What the groups have of the host, by name.
std::vector<policy::GroupLimits> resolve_groups(const PolicyFile& policy, const WallFace& face);
/// The defaults with what is built in, so that to write that down is no difference.
Layer whole_defaults(const PolicyFile& policy);
Terms settle_group(const PolicyFile& policy, const GroupRule& group, const WallFace& face);

}  // namespace balloon::policy::rules
