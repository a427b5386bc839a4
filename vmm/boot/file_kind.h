// SPDX-License-Identifier: Apache-2.0
// What a file that is no kernel of ours looks like, so that the error can say it.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace balloon::vmm {

/// How many bytes of the file's start describe_contents() wants, at most.
inline constexpr std::size_t kFileKindBytes = 1024;

/// "a gzip file", "text", "an initramfs (cpio archive)", ... from the first bytes of a file.
std::string describe_contents(std::span<const std::byte> start);

}  // namespace balloon::vmm
