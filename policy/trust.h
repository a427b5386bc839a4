// SPDX-License-Identifier: Apache-2.0
// What of a guest's statistics can be believed: checked against themselves and against what the host sees.
#pragma once

#include "policy/tunables.h"
#include "policy/types.h"

namespace balloon::policy {

/// One guest's sample, judged.
struct Judgement {
  Trust trust = Trust::absent;
  Bytes size{};       ///< the guest's size when sampled
  Bytes used{};       ///< of it; what is not available
  Bytes available{};  ///< size less used
  bool usable() const { return trust == Trust::believed || trust == Trust::limited; }
};

/// `swap_used` is what the whole host has in swap: where a guest's own part of it is not known, all of it
/// might be its.
Judgement judge(const GuestSnapshot& guest, Time now, Bytes swap_used, const Tunables& tunables);

/// The same for a guest that sends no statistics: what it has touched it is taken to use. Unusable when the
/// host does not see it either.
Judgement judge_by_host(const GuestSnapshot& guest);

}  // namespace balloon::policy
