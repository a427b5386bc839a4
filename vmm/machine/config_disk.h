// SPDX-License-Identifier: Apache-2.0
// The disks' part of the configuration.
#pragma once

#include <string_view>

#include "base/error.h"
#include "base/strict_yaml.h"
#include "vmm/devices/devices.h"

namespace balloon::vmm {

/// path=FILE, then what config/guest.yaml shows, with '-' for '_' ("readonly" needs no value).
Result<BlockConfig> parse_disk(std::string_view text);
void read_disk(yaml::Map& map, BlockConfig& disk);
Result<void> check_disk(const BlockConfig& disk);

}  // namespace balloon::vmm
