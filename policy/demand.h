// How much memory a guest needs: from what it uses, how fast that grows, and how much it is hurting.
#pragma once

#include <optional>

#include "policy/tunables.h"
#include "policy/types.h"

namespace balloon::policy {

/// What one guest needs, judged from one statistics sample after another.
class Demand {
 public:
  struct Estimate {
    Bytes used = 0;  ///< actual less available
    Bytes need = 0;  ///< between the guest's limits
    bool pressure = false;
  };

  /// Whether the statistics can be believed at all: the parts that the estimate needs are there and possible.
  static bool usable(const GuestSnapshot& guest);

  /// The estimate at `now`. Requires usable(guest). Up at once, down by half in need_half_life.
  Estimate update(const GuestSnapshot& guest, Time now, const Tunables& tunables);

 private:
  struct Sample {
    Time at{};
    Bytes used = 0;
    std::optional<Bytes> swap_in;
    std::optional<Bytes> swap_out;
  };

  void take(const GuestStats& stats, Bytes used, const Tunables& tunables);

  std::optional<Sample> last_;
  double growth_ = 0;        ///< of use and by swap traffic, bytes a second, not negative
  double swap_in_rate_ = 0;  ///< bytes a second
  double swapped_ = 0;       ///< swapped out and not in again, as far as known; bytes
  double smooth_need_ = 0;
  std::optional<Time> smoothed_at_;
};

}  // namespace balloon::policy
