// SPDX-License-Identifier: Apache-2.0
// balloond's law as it was before its rework, kept to be compared with. It goes with the last commit of the
// rework.
//
// Everything beside law.* is a copy of policy/ at that time: not to be mended, whatever is found in it.
#pragma once

#include <memory>

#include "policy/controller.h"
#include "policy/peers/balloond1/executor.h"
#include "policy/tunables.h"
#include "policy/urgency.h"

namespace balloon::policy::peers::balloond1 {

/// Its numbers are those of its time, but for what `asked` has otherwise than today's defaults: what a
/// scenario asks of balloond it asks of this law, too.
std::unique_ptr<Controller> make(const policy::Tunables& asked);

/// What it decides for before its period is over.
bool is_urgent(const UseSample& sample, const policy::Tunables& asked);

}  // namespace balloon::policy::peers::balloond1
