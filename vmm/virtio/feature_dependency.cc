// SPDX-License-Identifier: Apache-2.0
#include "vmm/virtio/feature_dependency.h"

#include <algorithm>

namespace balloon::vmm {

std::optional<FeatureDependency> unmet(std::span<const FeatureDependency> dependencies,
                                       std::uint64_t features) {
  const auto found =
      std::ranges::find_if(dependencies, [&](const FeatureDependency& one) { return !one.met(features); });
  return found == dependencies.end() ? std::nullopt : std::optional(*found);
}

std::uint64_t without_unmet(std::span<const FeatureDependency> dependencies, std::uint64_t features) {
  // What goes may have been what another one needs.
  while (const auto missing = unmet(dependencies, features)) features &= ~missing->feature;
  return features;
}

}  // namespace balloon::vmm
