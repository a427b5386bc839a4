// SPDX-License-Identifier: Apache-2.0
// Whether the layers that come together for a guest or a group can hold at once.
#pragma once

#include <optional>
#include <vector>

#include "policy/rules/values.h"

namespace balloon::policy::rules {

/// Complains at `spots`, which are of the last of `layers` (outermost first), when what that layer says makes
/// a minimum larger than a maximum: without schedules, or with any one of them active. Schedules that are
/// active at once in several layers are left to the moment: there max wins. `whole`: what shares are of,
/// where it is known.
void check_layers(const std::vector<const Layer*>& layers, const LayerSpots& spots,
                  std::optional<Bytes> whole);

}  // namespace balloon::policy::rules
