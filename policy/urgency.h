// What a decision should not wait for its period for. The daemon's loop and the simulator's ask the same.
#pragma once

#include "policy/tunables.h"
#include "policy/types.h"

namespace balloon::policy {

/// Decisions brought forward come no closer than this, so that one serves many events.
constexpr std::chrono::nanoseconds kBurstGap = std::chrono::milliseconds(100);

/// Whether half of what a guest of the size `actual` should have available is gone: waiting would be felt in
/// it.
bool is_urgent(Bytes actual, Bytes available, Bytes margin_min, double margin_ratio);

}  // namespace balloon::policy
