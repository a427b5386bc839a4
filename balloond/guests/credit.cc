// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/credit.h"

#include "base/pages.h"

namespace balloon::daemon {
namespace {

using policy::Bytes;

/// A VMM's mappings may be a little smaller than what it registers (holes, firmware): an eighth is no lie.
constexpr unsigned kSlackShare = 8;

Bytes halved(Bytes size, unsigned times) { return size / (std::uint64_t{1} << times); }

void halve(std::optional<Bytes>& size, const Credit& credit) {
  if (size) size = halved(*size, credit.halvings);
}

}  // namespace

Credit Credit::of(Bytes claimed, Bytes possible) {
  Credit credit;
  const Bytes most = possible + possible / kSlackShare;
  while (credit.halvings < 63 && halved(claimed, credit.halvings) > most) ++credit.halvings;
  return credit;
}

Bytes Credit::counted(Bytes claim) const { return is_full() ? claim : whole_pages(halved(claim, halvings)); }

void Credit::apply(policy::GuestSnapshot& guest) const {
  if (is_full()) return;
  guest.memory = counted(guest.memory);
  guest.actual = counted(guest.actual);
  guest.target = counted(guest.target);
  if (guest.pin) guest.pin->target = counted(guest.pin->target);
  if (!guest.stats) return;
  policy::GuestStats& stats = *guest.stats;
  stats.actual = counted(stats.actual);
  for (auto* size :
       {&stats.total, &stats.available, &stats.free, &stats.disk_caches, &stats.swap_in, &stats.swap_out})
    halve(*size, *this);
}

}  // namespace balloon::daemon
