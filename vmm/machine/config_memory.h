// SPDX-License-Identifier: Apache-2.0
// The memory's and the balloon's part of the configuration.
#pragma once

#include <string_view>

#include "base/error.h"
#include "base/strict_yaml.h"
#include "vmm/devices/devices.h"
#include "vmm/memory/backing.h"

namespace balloon::vmm {

/// shared, merge, reserve, preallocate, lock (=on|off) and huge-pages=off|transparent|2MiB|1GiB; what is not
/// named stays.
Result<void> parse_memory_backing(std::string_view text, MemoryBacking& backing);
void read_memory_backing(yaml::Map& map, MemoryBacking& backing);

/// on, off, id=NAME, addr=SLOT, target=SIZE, and deflate-on-oom, free-page-reporting, free-page-hinting
/// (=on|off); likewise.
Result<void> parse_balloon(std::string_view text, BalloonConfig& config);
void read_balloon(yaml::Map& map, BalloonConfig& config);

/// Whether `size` bytes of guest memory can be made of that, with that balloon.
Result<void> check_memory_backing(Bytes size, const MemoryBacking& backing, const BalloonConfig& balloon);

}  // namespace balloon::vmm
