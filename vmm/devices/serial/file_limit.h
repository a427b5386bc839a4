// SPDX-License-Identifier: Apache-2.0
// How much of a guest's output a file of the host keeps.
#pragma once

#include "base/bytes.h"

namespace balloon::vmm {

/// A file that is full is renamed to PATH.1 and begun anew: so a guest takes twice as much of the host's
/// disk, and the newest of what it said is there.
inline constexpr Bytes kMostInFile = 64 * kMiB;

}  // namespace balloon::vmm
