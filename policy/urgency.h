// SPDX-License-Identifier: Apache-2.0
// What a decision should not wait for its period for. The daemon's loop and the simulator's ask the same.
#pragma once

#include <optional>

#include "policy/tunables.h"
#include "policy/types.h"

namespace balloon::policy {

/// One sample of a guest of the size `actual`, and what it used in the sample before.
struct UseSample {
  Bytes actual{};
  Bytes available{};
  std::optional<Bytes> used_before{};

  Bytes used() const { return above(actual, available); }
};

/// Whether waiting would be felt in the guest: half of what it should have available is gone, or it is on its
/// way to something and would have no room to double.
bool is_urgent(const UseSample& sample, Bytes margin_min, double margin_ratio);

/// Such a rule of any law, for the simulator's loop.
using UrgencyRule = bool(const UseSample& sample, const Tunables& tunables);

}  // namespace balloon::policy
