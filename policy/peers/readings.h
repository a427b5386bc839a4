// SPDX-License-Identifier: Apache-2.0
// What the laws read of hosts and guests, with the meaning it has where they come from. In bytes, as doubles:
// differences may be negative, and guests may report absurd numbers.
#pragma once

#include <optional>

#include "policy/types.h"

namespace balloon::policy::peers {

/// A statistic of a guest. Nothing when it is absent, or 2^64-1: what QEMU returns for absent.
std::optional<double> known(const std::optional<Bytes>& statistic);

/// Free memory as the guest reported it last, however long ago.
std::optional<double> reported_free(const GuestSnapshot& guest);

/// What the guest's programs and kernel use, without its balloon (whichever way its driver accounts for it)
/// and without caches: its size when sampled less what was available then. Nothing when that is negative.
std::optional<double> reported_used(const GuestSnapshot& guest);

/// What the host's own processes use: neither available nor in a guest.
double host_own_use(const Snapshot& snapshot);

/// Σ of the guests' sizes.
double assigned(const Snapshot& snapshot);

}  // namespace balloon::policy::peers
