// SPDX-License-Identifier: Apache-2.0
// A law that knows what every guest will want in the next two seconds, and what the host will. No law can
// know that; how far one is from it is its regret. It is no bound: it plans no further, gives by weight, and
// pays for what it moves, so that a law can have less cost now and then. The bound is in bound.h.
// With hindsight instead it knows, as exactly, what everybody wanted a second ago: how much of the regret is
// for want of foresight, and how much for want of knowledge.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "policy/controller.h"
#include "policy/sim/world.h"
#include "policy/water_filling.h"

namespace balloon::policy::sim {

class Foresight final : public Controller {
 public:
  /// What it knows at a moment: all that was wanted from `behind` before it on, for `span`.
  struct Sight {
    Time behind{};
    Time span{};
  };
  static constexpr Sight kForesight{.behind = {}, .span = std::chrono::seconds(2)};
  static constexpr Sight kHindsight{.behind = std::chrono::seconds(1), .span = {}};
  /// How often it decides with foresight: more often than any law, so that nobody is short between two
  /// decisions. With hindsight it decides as often as our law.
  static constexpr Time kPeriod = std::chrono::milliseconds(200);

  /// The scenario must outlive it. `seed` is the world's.
  Foresight(const Scenario& scenario, std::uint64_t seed, const Sight& sight = kForesight);
  Plan decide(const Snapshot& snapshot) override;

 private:
  struct Seer {
    const GuestSpec* spec;
    GuestSignals signals;
  };
  Bytes need(Seer& seer, Time now);
  Bytes spare(Seer& seer, Time now);
  bool raise(const Snapshot& snapshot, Bytes shared, const std::function<Bytes(std::size_t)>& most);
  void reserve(const Snapshot& snapshot, Plan& plan);

  double most(Signal& signal, Time now) const;

  Sight sight_;
  std::map<std::string, Seer, std::less<>> seers_;
  HostSignals host_;
  double arc_least_;   ///< of the host, in bytes
  double zram_ratio_;  ///< memory a byte in the host's swap
  std::map<std::string, Bytes, std::less<>> granted_;
  std::vector<Claim> claims_;
  std::vector<Bytes> shares_;
  FillSpace space_;
  std::vector<std::size_t> movable_;
};

}  // namespace balloon::policy::sim
