// SPDX-License-Identifier: Apache-2.0
// libvirt's client library: its start, and what it says of an error.
#pragma once

#include <string>

#include "base/error.h"

namespace balloon::daemon::libvirt {

/// Starts it, once, and the thread in which it calls event callbacks; both stay as long as the process.
Result<void> start_client();

/// What went wrong in the newest call of this thread, in one line.
std::string last_error();

}  // namespace balloon::daemon::libvirt
