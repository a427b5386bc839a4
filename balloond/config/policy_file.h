// The policy file: what the host keeps, how the engine is tuned, and what each guest is granted.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/strict_yaml.h"
#include "policy/tunables.h"
#include "policy/types.h"

namespace balloon::daemon {

inline constexpr std::uint32_t kWeightMax = 10'000;

/// A size, fixed or as a share of the guest's boot memory.
struct SizeRule {
  Bytes bytes = 0;
  double ratio = 0;  ///< of boot memory; used when not 0
  bool relative() const { return ratio != 0; }
  Bytes of(Bytes memory) const;
};

struct LimitRule {
  SizeRule min{.bytes = 256 * kMiB};
  SizeRule max{.ratio = 1};
  std::uint32_t weight = 100;
};

/// Limits for the guests whose name fits the glob and that carry all the labels.
struct GuestRule {
  std::string name = "*";
  std::map<std::string, std::string> labels;
  LimitRule limits;
};

struct PolicyFile {
  policy::Tunables tunables;
  LimitRule defaults;
  std::vector<GuestRule> guests;  ///< the first that fits counts
};

/// `host_memory` bounds what the host may keep for itself. The error lists every complaint, one a line.
Result<PolicyFile> read_policy(const yaml::Document& document, Bytes host_memory);

/// What `policy` grants a guest: whole pages, min <= max <= memory.
policy::GuestLimits resolve(const PolicyFile& policy, const std::string& name,
                            const std::map<std::string, std::string>& labels, Bytes memory);

}  // namespace balloon::daemon
