// SPDX-License-Identifier: Apache-2.0
// The policy file: what the host keeps, how the engine is tuned, and what groups and guests are granted.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/strict_yaml.h"
#include "policy/rules/values.h"
#include "policy/tunables.h"

namespace balloon::policy::rules {

/// Guests that share one weight and stay within common limits. What it leaves out comes from the group it
/// inherits from: values are copied, memory is not shared with that group.
struct GroupRule {
  std::string name;
  std::vector<std::size_t>
      line_of_descent;  ///< indices of groups, itself last, the group without inherits first
  Layer own;            ///< min, max and weight of all its guests together
  Layer each;           ///< for each of its guests
};

/// For the guests whose name fits the glob and that carry all the labels.
struct GuestRule {
  std::string name = "*";
  std::map<std::string, std::string> labels;
  std::optional<std::size_t> group;  ///< index
  Layer layer;
};

/// A second policy that is evaluated beside and applied to nothing.
struct ShadowFile {
  std::string path;  ///< as written made relative to the policy file's own directory
  Place place;
};

/// What holds when somebody else moves a guest's balloon.
struct OtherHands {
  enum class Then : std::uint8_t {
    yield,         ///< it is left alone until nobody has moved it for `time`
    take_it_back,  ///< it is set again after `time`
  } then = Then::yield;
  std::chrono::nanoseconds time = std::chrono::minutes(10);
};
/// Sooner would be a fight: two controllers that set one balloon in turns.
inline constexpr std::chrono::nanoseconds kOverrideMin = std::chrono::minutes(1);
/// Longer is for a rule of the guest's own: its minimum and maximum.
inline constexpr std::chrono::nanoseconds kContestedMax = std::chrono::hours(24);
/// More boot memory than this many times the host's is a slip of the pen.
inline constexpr double kRamAllocationMax = 64;

struct PolicyFile {
  policy::Tunables tunables;
  bool ksm = false;  ///< the daemon runs the host's KSM; else it leaves it alone
  Layer defaults{.place = {.path = "defaults"}};
  std::vector<GroupRule> groups;
  std::vector<GuestRule> guests;  ///< the first that fits counts
  OtherHands other_hands;
  /// A reservation is refused where guests and reservations would have more boot memory together than this
  /// many times the host's memory: OpenStack Nova's ram_allocation_ratio. 0: boot memory is not counted.
  double ram_allocation_ratio = 0;
  std::optional<ShadowFile> shadow_file;
  std::shared_ptr<const PolicyFile> shadow;  ///< loaded; null without one
  Bytes host_memory{};                       ///< what the groups' shares are of

  /// Of a host with `memory`; nothing: boot memory is not counted.
  std::optional<Bytes> boot_memory_max(Bytes memory) const {
    if (ram_allocation_ratio == 0) return std::nullopt;
    return static_cast<Bytes>(static_cast<double>(memory) * ram_allocation_ratio);
  }
};

/// Reads `document`, which stands at `path`. `host_memory` bounds what the host may keep for itself. The
/// error lists every complaint, one a line. The shadow's file is named and not read.
Result<PolicyFile> read_policy(const yaml::Document& document, Bytes host_memory,
                               const std::string& path = {});

/// Loads the file at `path` with the drop-ins beside it ("policy.d/*.yaml" of "policy.yaml", by name), and
/// the shadow's; every complaint about any.
Result<PolicyFile> load_policy(const std::string& path, Bytes host_memory);

}  // namespace balloon::policy::rules
