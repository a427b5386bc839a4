// SPDX-License-Identifier: Apache-2.0
// The virtio transport's part of the configuration.
#pragma once

#include <string_view>

#include "base/error.h"
#include "vmm/virtio/transport_config.h"

namespace balloon::vmm {

/// modern, transitional, legacy or mmio, then [,packed=on|off]
Result<TransportConfig> parse_virtio(std::string_view text);
/// As in the configuration; "unknown" for what is none.
std::string_view name_of(VirtioInterface interface);

}  // namespace balloon::vmm
