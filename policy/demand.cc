#include "policy/demand.h"

#include <algorithm>
#include <cmath>

namespace balloon::policy {
namespace {

double seconds(std::chrono::nanoseconds time) { return std::chrono::duration<double>(time).count(); }

/// Counters run forwards; one that went back was reset (the guest rebooted) or is a lie: no progress is read
/// from it.
double progress(const std::optional<Bytes>& from, const std::optional<Bytes>& to) {
  return from && to && *to > *from ? static_cast<double>(*to - *from) : 0.0;
}

double decay(double half_life_s, double elapsed_s) {
  return half_life_s > 0 ? std::exp2(-elapsed_s / half_life_s) : 0.0;
}

}  // namespace

bool Demand::usable(const GuestSnapshot& guest) {
  if (!guest.stats || !guest.stats->available) return false;
  const GuestStats& stats = *guest.stats;
  if (stats.actual == 0 || stats.actual > guest.memory) return false;
  return *stats.available <= (stats.total ? std::min(*stats.total, guest.memory) : guest.memory);
}

void Demand::take(const GuestStats& stats, Bytes used, const Tunables& tunables) {
  if (last_ && stats.sampled_at > last_->at) {
    const double elapsed = seconds(stats.sampled_at - last_->at);
    const double out = progress(last_->swap_out, stats.swap_out);
    const double in = progress(last_->swap_in, stats.swap_in);
    const double rise = used > last_->used ? static_cast<double>(used - last_->used) : 0.0;
    growth_ = (rise + out + in) / elapsed;
    swap_in_rate_ = in / elapsed;
    swapped_ = std::max(0.0, swapped_ * decay(seconds(tunables.swapped_half_life), elapsed) + out - in);
  }
  if (!last_ || stats.sampled_at > last_->at)
    last_ = Sample{stats.sampled_at, used, stats.swap_in, stats.swap_out};
}

Demand::Estimate Demand::update(const GuestSnapshot& guest, Time now, const Tunables& tunables) {
  const GuestStats& stats = *guest.stats;
  const Bytes available = std::min(*stats.available, stats.actual);
  const Bytes used_bytes = stats.actual - available;
  take(stats, used_bytes, tunables);

  const auto used = static_cast<double>(used_bytes);
  const auto actual = static_cast<double>(stats.actual);
  double need = used + swapped_ +
                std::max(used * tunables.margin_ratio, static_cast<double>(tunables.margin_min)) +
                growth_ * seconds(tunables.growth_horizon);
  const double free_share = static_cast<double>(available) / actual;
  if (free_share < tunables.critical_ratio) need = std::max(need, actual * tunables.critical_growth);

  if (smoothed_at_ && need < smooth_need_) {
    const double elapsed = seconds(std::max(now - *smoothed_at_, Time{}));
    need += (smooth_need_ - need) * decay(seconds(tunables.need_half_life), elapsed);
  }
  const auto low = static_cast<double>(guest.limits.min);
  const auto high = static_cast<double>(guest.limits.max);
  need = std::clamp(need, std::min(low, high), high);
  smooth_need_ = need;
  smoothed_at_ = now;

  const bool pressure = free_share < tunables.pressure_ratio || swap_in_rate_ > tunables.pressure_swap_in;
  return {used_bytes, static_cast<Bytes>(need), pressure};
}

}  // namespace balloon::policy
