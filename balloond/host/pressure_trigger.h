// SPDX-License-Identifier: Apache-2.0
// The kernel's own alarm for memory pressure (Documentation/accounting/psi.rst, "Monitoring for pressure
// thresholds").
#pragma once

#include <string>

#include "base/error.h"
#include "base/unique_fd.h"

namespace balloon::daemon {

/// Opens a trigger: the descriptor polls POLLPRI when tasks stalled on memory for 15 % of one second (of two
/// without CAP_SYS_RESOURCE), a level at which programs feel it. Fails without PSI, or when this user may
/// not.
Result<UniqueFd> open_pressure_trigger(const std::string& root = "");

}  // namespace balloon::daemon
