// SPDX-License-Identifier: Apache-2.0
// Flags whose value is a list of settings: "a=1,b,c=2".
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/error.h"

namespace balloon::vmm {

/// Takes the value of one key; empty for a key without '='.
using Setter = std::function<Result<void>(std::string_view value)>;

/// Takes `text` apart and calls the setter of each key. Unknown keys, and keys that are there twice, are
/// refused. A comma in a value is written twice, as with QEMU.
Result<void> parse_pairs(std::string_view text, const std::map<std::string_view, Setter>& setters);

// Setters; `key` is for the complaint.
Setter to_string(std::string& into, std::string_view key);
Setter to_switch(bool& into, std::string_view key);  ///< on or off
Setter to_number(std::uint32_t& into, std::string_view key);
Setter to_bytes(Bytes& into, std::string_view key);

}  // namespace balloon::vmm
