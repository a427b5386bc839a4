// SPDX-License-Identifier: Apache-2.0
// What a guest holds of the host's memory.
#pragma once

#include <algorithm>

#include "policy/types.h"

namespace balloon::policy::peers::balloond1 {

/// What the guest holds or was promised.
inline Bytes held(const GuestSnapshot& guest) { return std::max(guest.actual, guest.target); }

/// Where the guest will be, at most, once the shrink that was asked of it is done.
inline Bytes settling_at(const GuestSnapshot& guest) { return std::min(guest.actual, guest.target); }

}  // namespace balloon::policy::peers::balloond1
