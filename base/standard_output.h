// SPDX-License-Identifier: Apache-2.0
// What programs print for people and scripts: a write that fails is an error, not an answer.
#pragma once

#include <string_view>

#include "base/error.h"

namespace balloon {

/// Keeps the numbers 0 to 2 from being given to files and sockets that are opened later, where whoever
/// started the program closed them: what is printed would go there. To print fails then.
void hold_standard_files();

/// Writes all of `text` to standard output, now.
Result<void> print_output(std::string_view text);

/// Whether all that was printed by stdio so far has been written. Programs ask before they end.
Result<void> finish_output();

}  // namespace balloon
