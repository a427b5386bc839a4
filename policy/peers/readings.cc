// SPDX-License-Identifier: Apache-2.0
#include "policy/peers/readings.h"

#include <algorithm>

namespace balloon::policy::peers {

std::optional<double> known(const std::optional<Bytes>& statistic) {
  if (!statistic || *statistic == Bytes::max()) return std::nullopt;
  return static_cast<double>(*statistic);
}

std::optional<double> reported_free(const GuestSnapshot& guest) {
  if (!guest.stats) return std::nullopt;
  return known(guest.stats->free);
}

std::optional<double> reported_used(const GuestSnapshot& guest) {
  if (!guest.stats) return std::nullopt;
  const auto available = known(guest.stats->available);
  const auto size = static_cast<double>(guest.stats->actual);
  if (!available || *available > size) return std::nullopt;
  return size - *available;
}

double host_own_use(const Snapshot& snapshot) {
  double own = static_cast<double>(snapshot.host.total) -
               static_cast<double>(std::min(snapshot.host.available, snapshot.host.total));
  for (const GuestSnapshot& guest : snapshot.guests) {
    own -= static_cast<double>(std::min(guest.on_host.resident, guest.actual));
  }
  return std::max(own, 0.0);
}

double assigned(const Snapshot& snapshot) {
  double sum = 0;
  for (const GuestSnapshot& guest : snapshot.guests) sum += static_cast<double>(guest.actual);
  return sum;
}

}  // namespace balloon::policy::peers
