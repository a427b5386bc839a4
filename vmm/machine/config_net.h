// SPDX-License-Identifier: Apache-2.0
// The network devices' part of the configuration.
#pragma once

#include <string_view>

#include "base/error.h"
#include "base/strict_yaml.h"
#include "vmm/devices/net/net_config.h"

namespace balloon::vmm {

/// tap=NAME or fds=N[:N...], then what config/guest.yaml shows, with '-' for '_'.
Result<NetConfig> parse_net(std::string_view text);
Result<MacAddress> parse_mac(std::string_view text);
void read_net(yaml::Map& map, NetConfig& net);
Result<void> check_net(const NetConfig& net);

}  // namespace balloon::vmm
