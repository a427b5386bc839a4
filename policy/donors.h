// SPDX-License-Identifier: Apache-2.0
// Who gives: how much memory guests that have more than their share are asked for.
#pragma once

#include "policy/decision.h"

namespace balloon::policy {

/// How much must be freed, beyond what is being freed already, for everybody to have their share; and from
/// whom to ask it. Page cache and more is asked only for what is needed; for what is expected, and for the
/// headroom, what is free in guests.
void ask_donors(Decision& decision);

}  // namespace balloon::policy
