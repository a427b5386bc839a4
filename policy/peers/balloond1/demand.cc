// SPDX-License-Identifier: Apache-2.0
#include "policy/peers/balloond1/demand.h"

#include <algorithm>

#include "policy/peers/balloond1/rate.h"
#include "policy/peers/balloond1/urgency.h"

namespace balloon::policy::peers::balloond1 {
namespace {

/// Cache that proved to be in use is given back in steps of what was read again, and at least this much.
constexpr double kCacheStep = 16 << 20;
/// A critical guest counts as having this part of its maximum at least: what a multiple of very little gives
/// it is not enough either.
constexpr double kSmallPart = 4;
/// Of the growth within the horizon, what is needed now.
constexpr double kNear = 0.5;
/// Of the page cache in use, what is as dear as programs' own memory. Reading the last of it again now and
/// then hurts less than others' swapping would.
constexpr double kFirmCache = 0.75;

Bytes bytes(double value) { return static_cast<Bytes>(std::max(0.0, value)); }

/// Page cache that the guest could drop: of what is available, what is not free; tmpfs is not available.
Bytes cached(const GuestSnapshot& guest, const Judgement& judged) {
  const GuestStats& stats = *guest.stats;
  if (!stats.free && !stats.disk_caches) return Bytes{0};
  const Bytes unused = std::min(stats.free.value_or(Bytes{}), judged.available);
  return std::min(stats.disk_caches.value_or(judged.available), judged.available - unused);
}

}  // namespace

/// Takes in one new sample.
void Demand::follow(const Judgement& judged, const Reading& reading, const Tunables& tunables) {
  if (used_ && reading.elapsed > 0) {
    const double rise = judged.used > *used_ ? static_cast<double>(judged.used - *used_) : 0.0;
    // What comes back from swap is counted as swapped already: it is no growth beyond that.
    rise_ = std::max(0.0, rise - reading.swapped_in) + reading.swapped_out;
    growth_ = rise_ / reading.elapsed;
    if (rise_ <= 0) known_ = peaks_.need();
    swapped_ = std::max(0.0, swapped_ * decay(seconds(tunables.swapped_half_life), reading.elapsed) +
                                 reading.swapped_out - reading.swapped_in);
    cache_ *= decay(seconds(tunables.cache_half_life), reading.elapsed);
    // It reads back cache that it had: what it has is too little.
    if (reading.lacks_cache)
      learn_cache(static_cast<double>(judged.available) + std::max(kCacheStep, reading.cache_missed));
  }
  if (!used_ || reading.elapsed > 0) {
    const auto used = static_cast<double>(judged.used);
    trough_ = used - std::max(0.0, used - (used_ ? trough_ : used)) *
                         decay(seconds(tunables.need_half_life), reading.elapsed);
    used_ = judged.used;
  }
}

void Demand::learn_cache(double bytes) { cache_ = std::max(cache_, bytes); }

/// What its programs hold, most of its cache in use, and room not to count as under pressure: with less it
/// would claim more than firm as soon as it is put there, and so on for ever.
double Demand::firm_part(double base, const Tunables& tunables) const {
  const double room = std::min(tunables.pressure_ratio + tunables.deadband_ratio, 0.5);
  const double firm = base / (1 - room) + static_cast<double>(tunables.deadband_min);
  return firm + kFirmCache * std::max(0.0, cache_ - (firm - base));
}

/// What a critical guest is let out to. How much it lacks is not known, since it cannot use what it does not
/// have; but one that came back from a peak before most likely lacks what it had there.
double Demand::let_out(const Judgement& judged, Signal signal, double high, const Tunables& tunables) const {
  if (signal == Signal::oom_kill) return high;
  const auto size = static_cast<double>(judged.size);
  const double deadband =
      std::max(static_cast<double>(tunables.deadband_min), tunables.deadband_ratio * size);
  if (peaks_.proved() > size + deadband) return std::min(peaks_.proved(), high);
  return std::min(std::max(size, high / kSmallPart) * tunables.critical_growth, high);
}

/// Whether the guest's claim to have nothing left does not fit with how quiet it is.
bool Demand::doubtful(const GuestSnapshot& guest, const Judgement& judged, Time now,
                      const Tunables& tunables) const {
  const GuestStats& stats = *guest.stats;
  if (!stats.swap_in || !stats.major_faults || !stats.disk_caches) return false;
  const auto size = static_cast<double>(judged.size);
  if (static_cast<double>(judged.available) >= tunables.pressure_ratio * size) return false;
  const bool much = static_cast<double>(*stats.disk_caches) > tunables.doubt_cache_ratio * size;
  return (much || doubted_) && gauge_.quiet_for(now) >= tunables.doubt_after;
}

Demand::Estimate Demand::update(const GuestSnapshot& guest, Judgement judged, Source source, Time now,
                                double margin_factor, const Tunables& tunables) {
  Reading reading = gauge_.read(guest, judged, source, now, tunables);
  // Once in doubt it stays so, however little cache is left to it, until it shows want.
  doubted_ = source == Source::statistics && reading.signal == Signal::low_available &&
             doubtful(guest, judged, now, tunables);
  if (doubted_) {
    judged.available = std::min(*guest.stats->disk_caches, judged.size) / 2;
    judged.used = judged.size - judged.available;
    reading.level = Pressure::none;
    reading.signal = Signal::none;
  }
  follow(judged, reading, tunables);

  const auto low = static_cast<double>(std::min(guest.limits.min, guest.limits.max));
  const auto high = static_cast<double>(guest.limits.max);
  const auto used = static_cast<double>(judged.used);
  const double factor = margin_factor * std::clamp(guest.limits.margin_factor, 0.0, 16.0);
  const double margin =
      factor * std::max(used * tunables.margin_ratio, static_cast<double>(tunables.margin_min));
  const double least = std::clamp(tunables.margin_low, 0.0, 1.0) * margin;
  const double swapped = std::min(swapped_, high);
  double growth = std::min(growth_ * seconds(tunables.growth_horizon), high);
  // One that grows as it did before is expected to stop where it stopped before, give or take a little.
  const double past = used + swapped + margin - known_;
  const bool beyond = known_ <= 0 || past > static_cast<double>(tunables.deadband_min);
  if (!beyond) growth = std::min(growth, std::max(0.0, -past));
  // Margin and cache are the same memory: what is kept available for a burst serves as cache until then.
  const double cache = std::min(std::max(0.0, cache_ - margin), high);
  // Only the first part of the growth is taken from others: what was expected for later and does not come has
  // hurt nobody.
  const double later = growth * (1 - kNear);
  const double base = used + swapped + growth - later;
  double firm = firm_part(base, tunables);
  // Margin is for what is not known. One that came back from a peak before is not expected to go beyond that,
  // and from others it takes no more than is enough there.
  const double enough = std::max(firm_part(used + swapped, tunables), used + swapped + least + cache);
  const double proved = peaks_.proved();
  const bool returning = proved > 0 && enough <= proved + static_cast<double>(tunables.deadband_min);
  const double kept = returning ? std::clamp(proved - base - cache, least, margin) : margin;
  double need = std::max(firm, base + kept + cache);
  double rescue = 0;
  if (reading.level == Pressure::critical) {
    rescue = std::max(0.0, let_out(judged, reading.signal, high, tunables) - need);
    need += rescue;
    firm = need;
  }
  const double now_needed = std::clamp(need, low, high);
  need += later;
  // What is remembered is what it really used, with its margin: expected growth and rescue are given up as
  // soon as they turn out not to be wanted.
  const double elapsed = smoothed_at_ ? std::max(0.0, seconds(since(*smoothed_at_, now))) : 0.0;
  double steady = std::clamp(used + swapped + margin + cache, low, high);
  peaks_.note({.need = steady, .low = enough}, margin, now, tunables);
  if (smoothed_at_ && steady < smooth_need_) {
    steady += (smooth_need_ - steady) * decay(seconds(tunables.need_half_life), elapsed);
  }
  smooth_need_ = steady;
  smoothed_at_ = now;
  need = std::clamp(std::max(need, steady), low, high);
  if (returning) need = std::max(now_needed, std::min(need, proved));
  const double recent = need - now_needed;

  Estimate estimate;
  estimate.used = judged.used;
  estimate.need = bytes(need);
  estimate.now = bytes(now_needed);
  estimate.firm = bytes(std::clamp(firm, low, now_needed));
  estimate.low = bytes(std::clamp(std::max(firm, base + least + cache), low, now_needed));
  estimate.cache = bytes(cache);
  const double calm = std::min(std::max(need, peaks_.need()), high);
  estimate.calm = bytes(calm);
  estimate.keep = bytes(calm);
  // One that grows is taken to be on its way to where it was before.
  double claim = now_needed + later;
  if (rise_ > std::max(kFastGrowth * used, static_cast<double>(tunables.deadband_min))) {
    // It is taken to be on its way to where it was before; or, when it never was higher, to double.
    claim = std::max(claim, calm);
    if (beyond) claim = std::max(claim, now_needed + used);
  }
  if (returning) claim = std::max(now_needed, std::min(claim, proved));
  estimate.claim = bytes(std::min(claim, high));
  estimate.calm = std::max(estimate.calm, estimate.claim);
  estimate.keep = estimate.calm;
  if (source == Source::statistics) {
    const Bytes held = judged.used + cached(guest, judged);
    estimate.keep = std::max(estimate.keep, std::min(held, guest.limits.max));
  }
  estimate.surging = used - trough_ > least;
  estimate.doubted = doubted_;
  estimate.pressure = reading.level;
  estimate.signal = reading.signal;
  estimate.terms = {.used = judged.used,
                    .margin = bytes(kept),
                    .growth = bytes(growth),
                    .swapped = bytes(swapped),
                    .cache = bytes(cache),
                    .rescue = bytes(rescue),
                    .recent = bytes(recent)};
  return estimate;
}

}  // namespace balloon::policy::peers::balloond1
