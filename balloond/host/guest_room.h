// SPDX-License-Identifier: Apache-2.0
// How much guest memory a process can have: what it has mapped that may be a guest's.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>

#include "policy/types.h"

namespace balloon::daemon {

/// The mappings of at least 16 MiB that can be written to or are shared, of a text as /proc/PID/maps has it
/// (proc_pid_maps(5)). Neighbours count as one.
policy::Bytes guest_room_in(std::string_view maps);

/// Of a process; by its VmSize when its mappings are not shown to this user (that needs CAP_SYS_PTRACE, or
/// the same user). Nothing when neither can be read. Takes some 100 µs; no process can make it take more than
/// 2 ms.
std::optional<policy::Bytes> guest_room(const std::string& root, pid_t pid);

}  // namespace balloon::daemon
