// SPDX-License-Identifier: Apache-2.0
// The part of `host check` that looks at the machine and at who else runs on it: clock, nested
// virtualisation, cgroups, NUMA, ZFS, other controllers.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "balloond/ctl/host_check.h"

namespace balloon::ctl {

std::vector<Check> platform_checks(const HostView& host);

/// The file's text without the last newline; nothing when it cannot be read.
std::optional<std::string> read_file(const HostView& host, const std::string& path);
/// The first number after `key`; 0 when there is none.
std::uint64_t number_in(const std::string& text, std::string_view key);

}  // namespace balloon::ctl
