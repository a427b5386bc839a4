// SPDX-License-Identifier: Apache-2.0
// "Did you mean": the known word that somebody who typed another one probably meant.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace balloon {

/// The nearest of `known` when it is near enough to be what was meant: one letter in four may differ, and one
/// more.
std::optional<std::string> suggest(std::string_view typed, std::span<const std::string> known);

}  // namespace balloon
