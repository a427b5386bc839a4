// SPDX-License-Identifier: Apache-2.0
#include "policy/reserve.h"

#include <algorithm>

#include "policy/rate.h"

namespace balloon::policy {
namespace {

/// What is kept while none of it is lent. What policy states is kept whatever the host's size.
Bytes whole_reserve(Bytes host_memory, const Tunables& tunables) {
  if (tunables.reserve_kept_ratio >= 1) return tunables.host_reserve;
  return std::min(tunables.host_reserve, sliding_minimum_free(host_memory));
}

}  // namespace

double Reserve::update(const HostSnapshot& host, const Use& use, const GuestsInWant& guests, double elapsed,
                       const Tunables& tunables) {
  const Constants& constants = tunables.constants;
  const auto total = static_cast<double>(host.total);
  const auto whole = static_cast<double>(whole_reserve(host.total, tunables));
  const double kept = std::min(
      whole, std::max({tunables.reserve_kept_ratio * total, static_cast<double>(constants.reserve_kept_min),
                       static_cast<double>(guests.untouched)}));
  if (rose_) *rose_ += elapsed;
  if (!usual_) {
    usual_ = use.own;
    // How much was lent nobody knows any more: all of it, then, and what is not wanted comes back.
    lent_ = use.spare >= 0 && use.spare < whole ? 1 : 0;
  }
  if (use.own > *usual_ + constants.own_rise_ratio * total) {
    // What rose once may go on: it is met from the reserve, all of which is wanted back.
    usual_ = use.own;
    rose_ = 0;
    lent_ = 0;
  }
  *usual_ += (use.own - *usual_) * (1 - decay(seconds(constants.own_half_life), elapsed));
  const bool steady = !rose_ || *rose_ >= seconds(constants.own_steady_after);
  lent_ = steady && guests.any ? 1 : lent_ * decay(seconds(constants.reserve_half_life), elapsed);
  return whole - lent_ * (whole - kept);
}

}  // namespace balloon::policy
