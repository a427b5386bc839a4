// SPDX-License-Identifier: Apache-2.0
// What is asked for now: how far each guest goes towards its share in this decision, and why no further.
#pragma once

#include "policy/decision.h"

namespace balloon::policy {

/// Sets target, reason and alternative of each guest's plan. Tells its history when it is grown or shrunk.
void set_targets(Decision& decision);

}  // namespace balloon::policy
