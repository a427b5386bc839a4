// SPDX-License-Identifier: Apache-2.0
// How much memory a guest needs: from what it uses, how fast that grows, and how much it is hurting.
#pragma once

#include <optional>

#include "policy/peers/balloond1/peaks.h"
#include "policy/peers/balloond1/pressure.h"
#include "policy/peers/balloond1/trust.h"
#include "policy/peers/balloond1/tunables.h"
#include "policy/types.h"

namespace balloon::policy::peers::balloond1 {

/// What one guest needs, judged from one sample after another.
class Demand {
 public:
  struct Estimate {
    Bytes used{};
    Bytes need{};   ///< between the guest's limits
    Bytes now{};    ///< need less what it only needed a moment ago: the first to go when others need it
    Bytes calm{};   ///< what it needed at its peaks of late, and may need again
    Bytes claim{};  ///< of that, what others free for it
    Bytes low{};    ///< what it should not come below: need with only part of the margin
    Bytes firm{};   ///< what its programs hold, most of its cache in use, and enough to be under no pressure
    Bytes cache{};  ///< of need: page cache that proved to be in use
    /// With all the page cache that it has: what it may keep while nobody else wants it.
    Bytes keep{};
    bool surging = false;  ///< its use rose of late by more than half of its margin
    bool doubted = false;  ///< it claims to want what nothing shows it to want
    Pressure pressure = Pressure::none;
    Signal signal = Signal::none;
    NeedTerms terms;
  };

  /// The estimate at `now`. Up at once, down by half in need_half_life. `margin_factor` is what the state of
  /// the host makes of margins. Requires judged.usable().
  Estimate update(const GuestSnapshot& guest, Judgement judged, Source source, Time now, double margin_factor,
                  const Tunables& tunables);

  /// The bytes beyond `judged.used` that the guest had when it was last taken from turned out to be cache in
  /// use.
  void learn_cache(double bytes);

 private:
  void follow(const Judgement& judged, const Reading& reading, const Tunables& tunables);
  double firm_part(double base, const Tunables& tunables) const;
  double let_out(const Judgement& judged, Signal signal, double high, const Tunables& tunables) const;
  bool doubtful(const GuestSnapshot& guest, const Judgement& judged, Time now,
                const Tunables& tunables) const;

  PressureGauge gauge_;
  std::optional<Bytes> used_;  ///< in the sample before
  double rise_ = 0;     ///< of use and by swap traffic from one sample to the next, not negative; bytes
  double growth_ = 0;   ///< the same a second
  double trough_ = 0;   ///< the least that was used of late; bytes
  double swapped_ = 0;  ///< swapped out and not in again, as far as known; bytes
  double cache_ = 0;    ///< page cache in use; bytes
  Peaks peaks_;
  double known_ = 0;  ///< the largest need of late when its use last did not rise; bytes
  bool doubted_ = false;
  double smooth_need_ = 0;
  std::optional<Time> smoothed_at_;
};

}  // namespace balloon::policy::peers::balloond1
