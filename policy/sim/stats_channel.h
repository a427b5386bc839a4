// How a guest's statistics come to the daemon: now and then, late, with gaps, sometimes lies.
#pragma once

#include <array>
#include <optional>

#include "policy/sim/guest_plant.h"
#include "policy/sim/random.h"
#include "policy/types.h"

namespace balloon::policy::sim {

class StatsChannel {
 public:
  /// `offset` is when within a period this guest's samples are taken.
  StatsChannel(const StatsSpec& spec, Time offset, std::uint64_t seed);

  /// Takes a sample when it is time to, and delivers those that have arrived.
  void step(Time now, const GuestPlant& guest, bool silent, Lie lie);
  /// Forgets what was delivered, and what is under way: a new daemon, or a new guest.
  void reset();
  const std::optional<GuestStats>& newest() const { return newest_; }
  /// The one delivered before the newest.
  const std::optional<GuestStats>& before() const { return before_; }

 private:
  struct Sample {
    Time arrives{};
    GuestStats stats;
  };

  GuestStats sample(Time now, const GuestPlant& guest) const;
  void falsify(GuestStats& stats, Lie lie);

  StatsSpec spec_;
  Random random_;
  Time next_;
  std::array<Sample, 8> under_way_;  ///< by arrival; more than are ever late at once
  std::size_t waiting_ = 0;
  std::optional<GuestStats> newest_;
  std::optional<GuestStats> before_;
  std::optional<GuestStats> frozen_;
  double backwards_ = 0;
};

}  // namespace balloon::policy::sim
