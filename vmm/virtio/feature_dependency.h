// SPDX-License-Identifier: Apache-2.0
// Features that need other features (virtio 1.2, 2.2.1 and each device's "Feature bit requirements"). Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

namespace balloon::vmm {

struct FeatureDependency {
  std::uint64_t feature = 0;  ///< one bit
  std::uint64_t needs = 0;    ///< at least one of these
  bool met(std::uint64_t features) const { return (features & feature) == 0 || (features & needs) != 0; }
};

/// The first that `features` does not meet.
std::optional<FeatureDependency> unmet(std::span<const FeatureDependency> dependencies,
                                       std::uint64_t features);
/// `features` without those that lack what they need.
std::uint64_t without_unmet(std::span<const FeatureDependency> dependencies, std::uint64_t features);

}  // namespace balloon::vmm
