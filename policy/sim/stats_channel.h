// SPDX-License-Identifier: Apache-2.0
// How a guest's statistics come to the daemon: now and then, late, with gaps, sometimes lies.
#pragma once

#include <array>
#include <optional>

#include "policy/sim/as_balloond.h"
#include "policy/sim/guest_plant.h"
#include "policy/sim/random.h"
#include "policy/types.h"

namespace balloon::policy::sim {

class StatsChannel {
 public:
  /// `offset` is when within a period this guest's samples are taken. With `as_balloond` samples are judged
  /// as there, and only what is usable counts as delivered.
  StatsChannel(const StatsSpec& spec, Time offset, std::uint64_t seed, bool as_balloond = false);

  /// Takes a sample when it is time to, and delivers those that have arrived.
  void step(Time now, const GuestPlant& guest, bool silent, Lie lie);
  /// Forgets what was delivered, and what is under way: a new daemon, a new guest, or a connection made anew.
  void reset(Time now);
  /// Its VMM's connection to the daemon is lost, until reset().
  void lose_link() { registered_.lose(); }
  bool linked() const { return registered_.connected(); }
  /// What a law is shown of it: the newest sample, or what balloond makes of having none.
  std::optional<GuestStats> seen(Time now, Bytes actual, Time stale_after) const;
  const std::optional<GuestStats>& newest() const { return newest_; }
  /// The one delivered before the newest.
  const std::optional<GuestStats>& before() const { return before_; }

 private:
  struct Sample {
    Time arrives{};
    GuestStats stats;
  };

  GuestStats sample(Time now, const GuestPlant& guest);
  void deliver(const GuestStats& stats, Bytes memory);
  void falsify(GuestStats& stats, Lie lie);
  double noise(Time now, const GuestPlant& guest);

  StatsSpec spec_;
  Random random_;
  Random trembling_;
  double noise_ = 0;  ///< of the last sample, in standard deviations
  Time noisy_at_{};
  bool as_balloond_;
  Registered registered_;
  std::optional<Time> delivered_;  ///< when the newest that arrived was taken
  Time next_;
  std::array<Sample, 8> under_way_;  ///< by arrival; more than are ever late at once
  std::size_t waiting_ = 0;
  std::optional<GuestStats> newest_;
  std::optional<GuestStats> before_;
  std::optional<GuestStats> frozen_;
  double backwards_ = 0;
};

}  // namespace balloon::policy::sim
