// The kernel's own alarm for memory pressure (Documentation/accounting/psi.rst, "Monitoring for pressure thresholds").
#pragma once

#include <string>

#include "base/error.h"
#include "base/unique_fd.h"

namespace balloon::daemon {

/// Opens a trigger: the descriptor polls POLLPRI when tasks stalled on memory for 150 ms within one second, a level at
/// which programs feel it. Fails without PSI, or (before Linux 6.5) without CAP_SYS_RESOURCE.
Result<UniqueFd> open_pressure_trigger(const std::string& root = "/");

}  // namespace balloon::daemon
