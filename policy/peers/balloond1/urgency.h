// SPDX-License-Identifier: Apache-2.0
// What a decision should not wait for its period for. The daemon's loop and the simulator's ask the same.
#pragma once

#include "policy/types.h"

namespace balloon::policy {
struct UseSample;
}

namespace balloon::policy::peers::balloond1 {

/// A guest whose use grows by this part of it from one sample to the next is on its way to something.
constexpr double kFastGrowth = 0.1;

/// Whether waiting would be felt in the guest: half of what it should have available is gone, or it is on its
/// way to something and would have no room to double.
bool is_urgent(const UseSample& sample, Bytes margin_min, double margin_ratio);

}  // namespace balloon::policy::peers::balloond1
