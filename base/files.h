// SPDX-License-Identifier: Apache-2.0
// Files that must be whole whatever happens, and directories for them.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace balloon {

/// Makes the directory and those above it, if need be: 0750.
Result<void> make_directory(const std::string& path);

/// Puts `text` in the place of what `path` has, or of nothing: on the disk when this returns, and never a
/// part of it, though the machine loses power. On an error `path` has what it had, or (when only its
/// directory could not be synced) the new text. It is written beside it first, as `path` + ".new".
Result<void> replace_file(const std::string& path, std::string_view text, mode_t mode);

/// The whole file, or nothing when there is none; an error when it is longer than `limit` bytes.
Result<std::optional<std::string>> read_file(const std::string& path, std::size_t limit);

}  // namespace balloon
