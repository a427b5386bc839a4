// SPDX-License-Identifier: Apache-2.0
// What one place of a policy file says about guests, and when.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "policy/rules/schedule.h"
#include "policy/rules/size_rule.h"

namespace balloon::policy::rules {

inline constexpr std::uint32_t kWeightMax = 10'000;
/// A margin of more than four times the engine's keeps somebody else's memory idle.
inline constexpr double kMarginFactorMax = 4;

/// A guest's service level: what it is granted where nothing more exact is said.
enum class SloClass : std::uint8_t { guaranteed, burstable, best_effort };

/// "guaranteed", "burstable", "best-effort"
std::string_view name_of(SloClass slo_class);

/// Whose word counts for a guest's min, weight and control where its hypervisor has one: labels that its
/// backend sets say what that is.
enum class LimitsOf : std::uint8_t { policy, hypervisor };
inline constexpr const char* kMinLabel = "limits/min";          ///< a size: "2 GiB"
inline constexpr const char* kWeightLabel = "limits/weight";    ///< "100"
inline constexpr const char* kControlLabel = "limits/control";  ///< "off"; without it: on

/// "policy", "hypervisor"
std::string_view name_of(LimitsOf limits);

/// What is unset is left to the places further out.
struct Values {
  std::optional<SizeRule> min{};
  std::optional<SizeRule> max{};
  std::optional<std::uint32_t> weight{};
  std::optional<SloClass> slo_class{};
  std::optional<bool> ksm{};
  std::optional<double> margin_factor{};
  std::optional<bool> control{};
  std::optional<LimitsOf> limits{};
  bool operator==(const Values&) const = default;
  bool empty() const { return *this == Values{}; }
};

/// What a class says by itself: weights are four times the next class's; a guaranteed guest keeps all its
/// memory, a best-effort one has half the usual margin.
const Values& values_of(SloClass slo_class);
/// What holds where a policy says nothing at all.
const Values& built_in_values();

/// on or off, true or false; complains about anything else.
std::optional<bool> read_switch(const yaml::Value& value);

/// Where in a file something stands.
struct Place {
  std::string path{};    ///< of keys, e.g. "guests[0].schedules[1]"
  std::size_t line = 0;  ///< from 1; 0 for what is no file
  std::string file{};    ///< the drop-in's name; empty: the policy file itself
};

struct Schedule {
  Place place{};
  When when{};
  Values values{};
};

/// Values, and others in their stead at times: the first schedule that is active counts.
struct Layer {
  Place place{};
  Values values{};
  std::vector<Schedule> schedules{};

  const Schedule* active(const WallFace& face) const;
};

/// What a layer may say: a group's own part has sizes and a weight, and its shares are of the host's memory.
struct LayerWords {
  SizeWords max;
  SizeWords min;
  bool guest = true;
};
inline constexpr LayerWords kGuestWords{.max = {}, .min = {.floor = true}, .guest = true};
inline constexpr LayerWords kGroupWords{
    .max = {.whole = "the host's memory"}, .min = {.whole = "the host's memory"}, .guest = false};

/// Where a layer's parts stand, for complaints about how they go with those of others.
struct LayerSpots {
  std::optional<yaml::Value> limit{};    ///< its min, else its max
  std::vector<yaml::Value> schedules{};  ///< one each
};

/// Reads a layer's keys, and complains about a minimum above its maximum in the same place.
LayerSpots read_layer(yaml::Map& map, const LayerWords& words, Layer& out);

/// "min 2 GiB is above max 1 GiB", or nothing: a size and a share are compared for each guest, when its
/// memory is known; there max wins.
std::optional<std::string> contradiction(const SizeRule& min, const SizeRule& max);

}  // namespace balloon::policy::rules
