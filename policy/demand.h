// SPDX-License-Identifier: Apache-2.0
// How much memory a guest needs: from what it uses, how fast that grows, and how much it is hurting.
#pragma once

#include <optional>

#include "policy/levels.h"
#include "policy/peaks.h"
#include "policy/pressure.h"
#include "policy/trust.h"
#include "policy/tunables.h"
#include "policy/types.h"

namespace balloon::policy {

/// What one guest needs, judged from one sample after another.
class Demand {
 public:
  struct Estimate {
    Bytes used{};
    Bytes need{};          ///< as it is shown: with what it only needed a moment ago, and all expected growth
    Levels levels;         ///< minimum and maximum are the guest's limits
    Bytes grow_below{};    ///< grown when it has less: need with only part of the margin
    Bytes hot_cache{};     ///< of need: page cache that proved to be in use
    bool surging = false;  ///< its use rose of late by more than half of its margin
    bool filling =
        false;  ///< at rest but for its page cache, which has grown of late by more than the deadband
    bool doubted = false;  ///< it asks for what nothing shows it to want
    Pressure pressure = Pressure::none;
    Signal signal = Signal::none;
    NeedTerms terms;
  };

  /// The estimate at `now`. Up at once, down by half in need_half_life. `margin_factor` is what the state of
  /// the host makes of margins; one that is `held` is not probed. Requires judged.usable().
  Estimate update(const GuestSnapshot& guest, Judgement judged, Source source, Time now, double margin_factor,
                  bool held, const Tunables& tunables);

  /// The bytes beyond `judged.used` that the guest had when it was last taken from turned out to be cache in
  /// use.
  void learn_cache(double bytes);

 private:
  /// What the guest works with, in bytes.
  struct Use {
    double used = 0;
    double swapped = 0;
    double growth = 0;    ///< expected within the horizon
    double later = 0;     ///< of that, what is not needed now
    bool beyond = false;  ///< it grows beyond what it was known to need
    double margin = 0;
    double margin_low = 0;  ///< with less of its margin than this it is grown
    double cache = 0;       ///< in use, beyond the margin
    double min = 0;         ///< its limits
    double max = 0;

    /// What is needed now without margin.
    double base() const { return used + swapped + growth - later; }
  };

  Reading read(const GuestSnapshot& guest, Judgement& judged, Source source, Time now,
               const Tunables& tunables);
  void follow(const Judgement& judged, const Reading& reading, Bytes cache, const Tunables& tunables);
  bool is_believed(const Judgement& judged) const;
  void remember_swapped(const Judgement& judged, const Reading& reading, const Tunables& tunables);
  void remember_kills(const Judgement& judged, const Reading& reading, const Tunables& tunables);
  Use use_of(const GuestSnapshot& guest, const Judgement& judged, double margin_factor,
             const Tunables& tunables) const;
  bool grows_fast(const Use& use, const Tunables& tunables) const;
  double claim_of(const Use& use, double need, double peak, const Tunables& tunables) const;
  double fade(double steady, Time now, const Tunables& tunables);
  double working_set(double base, const Tunables& tunables) const;
  double let_out(const Judgement& judged, Signal signal, double max, const Tunables& tunables) const;
  bool is_content(const Judgement& judged, const Reading& reading, Time now, const Tunables& tunables) const;
  static double probed(const GuestSnapshot& guest, const Judgement& judged, bool held,
                       const Tunables& tunables);
  bool doubtful(const GuestSnapshot& guest, const Judgement& judged, Time now,
                const Tunables& tunables) const;

  PressureGauge gauge_;
  std::optional<Bytes> used_;  ///< in the sample before
  double rise_ = 0;          ///< of use and by swap traffic from one sample to the next, not negative; bytes
  double growth_ = 0;        ///< the same a second
  double trough_ = 0;        ///< the least that was used of late; bytes
  double cache_trough_ = 0;  ///< the least page cache that it had of late; bytes
  double swapped_ = 0;       ///< swapped out and not in again, as far as known; bytes
  double has_room_for_ = 0;  ///< seconds in which it had its margin available and swapped nothing out
  double cache_ = 0;         ///< page cache in use; bytes
  bool has_swap_ = false;    ///< seen swapping
  bool was_critical_ = false;  ///< in the sample before, by figures that are believed
  Bytes size_{};               ///< in the sample before
  double killed_ = 0;          ///< what it needs, since it was killed with less; bytes
  Peaks peaks_;
  double known_ = 0;  ///< the largest need of late when its use last did not rise; bytes
  bool doubted_ = false;
  bool content_ = false;  ///< see is_content
  double smooth_need_ = 0;
  std::optional<Time> smoothed_at_;
};

}  // namespace balloon::policy
