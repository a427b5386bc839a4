// SPDX-License-Identifier: Apache-2.0
// Tokens: who shows one is who was given it.
#pragma once

#include <string>
#include <string_view>

namespace balloon::daemon {

/// 128 random bits in hexadecimal. Nobody guesses it.
std::string new_token();

/// Takes the same time wherever they differ.
bool same_token(std::string_view one, std::string_view other);

}  // namespace balloon::daemon
