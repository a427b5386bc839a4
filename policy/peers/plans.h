// SPDX-License-Identifier: Apache-2.0
// What the rivals' laws share: a plan that changes nothing, to start from, and ways to write into it.
#pragma once

#include "policy/types.h"

namespace balloon::policy::peers {

/// Each guest keeps the target it has, reservations wait, KSM is left alone.
Plan hold(const Snapshot& snapshot);

/// Sets a guest's target to `target` bytes: whole pages, between nothing and its boot memory. Does nothing to
/// a guest whose balloon cannot be moved.
void ask(const GuestSnapshot& guest, double target, GuestPlan& plan);

/// Which part of its range a system promises a guest to be.
enum class Promise : std::uint8_t { minimum, maximum };

/// Grants every reservation at once, without a look at what is free: what a system without admission control
/// does when a guest is started.
void grant_unseen(const Snapshot& snapshot, Promise promise, Plan& plan);

}  // namespace balloon::policy::peers
