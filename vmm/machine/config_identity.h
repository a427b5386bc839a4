// SPDX-License-Identifier: Apache-2.0
// The ids and PCI addresses of devices: part of each device's configuration.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/strict_yaml.h"
#include "vmm/devices/identity.h"
#include "vmm/machine/flag_values.h"

namespace balloon::vmm {

struct VmmConfig;

/// An identifier as in QEMU: letters, digits, '-', '.' and '_', starting with a letter.
Result<std::string> parse_id(std::string_view text);
/// A PCI slot as in QEMU: hexadecimal, with the function after a dot ("5", "0x1f", "5.0").
Result<std::optional<unsigned>> parse_slot(std::string_view text);

// Setters of the flags' keys "id" and "addr", and the same two in YAML.
Setter to_id(DeviceIdentity& into);
Setter to_slot(DeviceIdentity& into);
void read_identity(yaml::Map& map, DeviceIdentity& into);

// By which clients of the monitor name devices, in the order of the configuration.
std::string balloon_name(const VmmConfig& config);
std::vector<std::string> disk_names(const VmmConfig& config);
std::vector<std::string> net_names(const VmmConfig& config);

/// No name and no slot is there twice.
Result<void> check_identities(const VmmConfig& config);

}  // namespace balloon::vmm
