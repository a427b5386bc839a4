// SPDX-License-Identifier: Apache-2.0
#include "policy/trust.h"

#include <algorithm>

#include "policy/rate.h"

namespace balloon::policy {
namespace {

bool possible(const GuestSnapshot& guest, const GuestStats& stats) {
  if (stats.actual == Bytes{0} || stats.actual > guest.memory) return false;
  return *stats.available <= (stats.total ? std::min(*stats.total, guest.memory) : guest.memory);
}

}  // namespace

Judgement judge(const GuestSnapshot& guest, Time now, Bytes swap_used, const Tunables& tunables) {
  if (!guest.stats || !guest.stats->available) return {};
  const GuestStats& stats = *guest.stats;
  if (stats.sampled_at <= now && since(stats.sampled_at, now) > tunables.stale_after)
    return {.trust = Trust::stale};
  if (!possible(guest, stats)) return {.trust = Trust::impossible};

  // Used is total less available. With deflate-on-OOM total stays at boot memory and the balloon counts as
  // used; without it total shrinks with the balloon. The guest's size when it was sampled less what is
  // available is the same in both, and counts what its kernel keeps out of total as used, as it should.
  Judgement judged;
  judged.trust = Trust::believed;
  judged.size = stats.actual;
  judged.used = above(stats.actual, *stats.available);
  if (guest.on_host.resident > Bytes{0}) {
    const Bytes untouched =
        std::max(tunables.untouched_min,
                 static_cast<Bytes>(tunables.untouched_ratio * static_cast<double>(guest.memory)));
    const Bytes swapped = std::max(guest.on_host.swapped, swap_used);
    const Bytes most = add(add(guest.on_host.resident, swapped), untouched);
    if (judged.used > most) {
      judged.used = most;
      judged.trust = Trust::limited;
    }
  }
  judged.available = judged.size - judged.used;
  return judged;
}

Judgement judge_by_host(const GuestSnapshot& guest) {
  if (guest.on_host.resident == Bytes{0} || guest.actual == Bytes{0}) return {};
  Judgement judged;
  judged.trust = Trust::believed;
  judged.size = std::min(guest.actual, guest.memory);
  judged.used = std::min(add(guest.on_host.resident, guest.on_host.swapped), judged.size);
  judged.available = judged.size - judged.used;
  return judged;
}

}  // namespace balloon::policy
