// SPDX-License-Identifier: Apache-2.0
// The process's life: machine after machine until the guest powers off, the process is told to end, or
// nothing works any more.
#pragma once

#include <functional>

#include "base/error.h"
#include "vmm/machine/config.h"

namespace balloon::vmm {

/// Blocks the signals that end the process, so that only run_vmm() sees them. Call before any thread starts.
void block_ending_signals();

/// Returns when the guest powered off (or rebooted, where the configuration says that this ends it) or on
/// SIGTERM or SIGINT; SIGPWR presses its power button. Fails when the machine cannot be built or run.
/// `on_running`: called once, when the guest runs; what it fails with ends the guest.
Result<void> run_vmm(const VmmConfig& config, const std::function<Result<void>()>& on_running = {});

}  // namespace balloon::vmm
