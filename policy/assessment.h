// SPDX-License-Identifier: Apache-2.0
// What is to be held of one guest: what of its statistics counts, what state it is in, which levels it has.
#pragma once

#include "policy/decision.h"

namespace balloon::policy {

/// Fills in the guest's GuestDecision and the first part of its plan, and adds it to the consumers. To be
/// called for one guest after the other.
void assess(Decision& decision, std::size_t index, GuestHistory& history);

}  // namespace balloon::policy
