// SPDX-License-Identifier: Apache-2.0
// Hosts and guests for the tests of control laws: round numbers in MiB.
#pragma once

#include <string>
#include <utility>

#include "base/bytes.h"
#include "policy/types.h"
#include "tests/unit/policy/mib.h"

namespace balloon::policy::peers {

inline constexpr std::chrono::seconds kStart{1000};

/// A guest at its target with fresh statistics.
inline GuestSnapshot guest(std::string name, std::uint64_t memory_mib, std::uint64_t size_mib,
                           std::uint64_t free_mib, std::uint64_t available_mib) {
  GuestSnapshot guest;
  guest.name = std::move(name);
  guest.memory = memory_mib * kMiB;
  guest.limits = {.min = 512 * kMiB, .max = guest.memory};
  guest.actual = guest.target = size_mib * kMiB;
  guest.on_host.resident = (size_mib - free_mib) * kMiB;
  guest.controllable = true;
  GuestStats& stats = guest.stats.emplace();
  stats.sampled_at = kStart;
  stats.actual = guest.actual;
  stats.total = guest.memory;
  stats.available = available_mib * kMiB;
  stats.free = free_mib * kMiB;
  return guest;
}

/// A host of which `available_mib` are available, all of it free.
inline Snapshot host(std::uint64_t total_mib, std::uint64_t available_mib,
                     std::vector<GuestSnapshot> guests) {
  Snapshot snapshot;
  snapshot.now = kStart;
  snapshot.host.total = total_mib * kMiB;
  snapshot.host.free = snapshot.host.available = available_mib * kMiB;
  snapshot.guests = std::move(guests);
  return snapshot;
}

}  // namespace balloon::policy::peers
