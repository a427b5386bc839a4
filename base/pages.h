// SPDX-License-Identifier: Apache-2.0
// The page: what a balloon moves, and what sizes are whole multiples of.
#pragma once

#include "base/bytes.h"

namespace balloon {

/// Of x86-64, and of the balloon device whatever the guest's own is (VIRTIO_BALLOON_PFN_SHIFT,
/// virtio 1.2, 5.5.6).
inline constexpr Bytes kPageSize = 4 * kKiB;

/// Rounded down to whole pages.
constexpr Bytes whole_pages(Bytes bytes) { return bytes / kPageSize * kPageSize; }
/// Rounded up to whole pages.
constexpr Bytes pages_to_hold(Bytes bytes) { return whole_pages(bytes + kPageSize - Bytes{1}); }

}  // namespace balloon
