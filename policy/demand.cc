// SPDX-License-Identifier: Apache-2.0
#include "policy/demand.h"

#include <algorithm>

#include "policy/rate.h"

namespace balloon::policy {
namespace {

Bytes bytes(double value) { return static_cast<Bytes>(std::max(0.0, value)); }

/// Page cache that the guest could drop: of what is available, what is not free; tmpfs is not available.
Bytes cached(const GuestSnapshot& guest, const Judgement& judged) {
  const GuestStats& stats = *guest.stats;
  if (!stats.free && !stats.disk_caches) return Bytes{0};
  const Bytes unused = std::min(stats.free.value_or(Bytes{}), judged.available);
  return std::min(stats.disk_caches.value_or(judged.available), judged.available - unused);
}

/// What should be available beyond what is used, for what is not known.
double margin_of(double used, const Tunables& tunables) {
  return std::max(used * tunables.margin_ratio, static_cast<double>(tunables.margin_min));
}

double deadband_of(double size, const Tunables& tunables) {
  return std::max(static_cast<double>(tunables.deadband_min), tunables.deadband_ratio * size);
}

}  // namespace

/// Takes in one new sample.
void Demand::follow(const Judgement& judged, const Reading& reading, Bytes cache, const Tunables& tunables) {
  if (used_ && reading.elapsed > 0) {
    const double rise = judged.used > *used_ ? static_cast<double>(judged.used - *used_) : 0.0;
    // What comes back from swap is counted as swapped already: it is no growth beyond that.
    rise_ = std::max(0.0, rise - reading.swapped_in) + reading.swapped_out;
    growth_ = rise_ / reading.elapsed;
    if (rise_ <= 0) known_ = peaks_.need();
    remember_kills(judged, reading, tunables);
    remember_swapped(judged, reading, tunables);
    cache_ *= decay(seconds(tunables.cache_half_life), reading.elapsed);
    // It reads back cache that it had: what it has is too little.
    if (reading.lacks_cache)
      learn_cache(static_cast<double>(judged.available) +
                  std::max(static_cast<double>(tunables.constants.cache_step), reading.cache_missed));
  }
  if (!used_ || reading.elapsed > 0) {
    was_critical_ = is_believed(judged) && reading.level == Pressure::critical;
    size_ = judged.size;
    const auto trough = [&](double lowest, Bytes now) {
      const auto level = static_cast<double>(now);
      return level - std::max(0.0, level - (used_ ? lowest : level)) *
                         decay(seconds(tunables.need_half_life), reading.elapsed);
    };
    trough_ = trough(trough_, judged.used);
    cache_trough_ = trough(cache_trough_, cache);
    used_ = judged.used;
  }
}

/// Whether what it uses is what it says.
bool Demand::is_believed(const Judgement& judged) const {
  return judged.trust == Trust::believed && !doubted_;
}

/// What is in use comes back from swap within seconds where there is room for it. What does not was freed, or
/// is idle.
void Demand::remember_swapped(const Judgement& judged, const Reading& reading, const Tunables& tunables) {
  const bool has_room = reading.swapped_out <= 0 && static_cast<double>(judged.available) >=
                                                        margin_of(static_cast<double>(judged.used), tunables);
  has_room_for_ = has_room ? has_room_for_ + reading.elapsed : 0;
  swapped_ = swapped_ * decay(seconds(tunables.swapped_half_life), reading.elapsed) + reading.swapped_out -
             reading.swapped_in;
  if (swapped_ < 0 || has_room_for_ > seconds(tunables.growth_horizon)) swapped_ = 0;
}

/// A guest that swaps says what it lacks by that; one that cannot has its programs killed, and then looks as
/// if it lacked nothing.
void Demand::remember_kills(const Judgement& judged, const Reading& reading, const Tunables& tunables) {
  const Constants& constants = tunables.constants;
  has_swap_ |= reading.swapped_out + reading.swapped_in > 0;
  killed_ *= decay(seconds(constants.killed_half_life), reading.elapsed);
  const double survived = (1 - constants.killed_fall_ratio) * static_cast<double>(*used_);
  // What is doubted or cut down falls by that alone. One that was let out meanwhile had room: its load has
  // ended.
  const bool seems_killed = was_critical_ && is_believed(judged) && judged.size <= size_ &&
                            static_cast<double>(judged.used) < survived;
  if (has_swap_) {
    killed_ = 0;
  } else if (reading.killed || seems_killed) {
    killed_ = std::max(killed_, constants.killed_growth * static_cast<double>(size_));
  }
}

void Demand::learn_cache(double bytes) { cache_ = std::max(cache_, bytes); }

/// What its programs hold, most of its cache in use, and room not to count as under pressure: with less it
/// would claim more than this as soon as it is put there, and so on for ever.
double Demand::working_set(double base, const Tunables& tunables) const {
  const double room =
      std::min(tunables.pressure_ratio + tunables.deadband_ratio, tunables.constants.working_set_room_max);
  const double held = base / (1 - room) + static_cast<double>(tunables.deadband_min);
  return held + tunables.constants.working_set_cache_ratio * std::max(0.0, cache_ - (held - base));
}

/// What a critical guest is let out to. How much it lacks is not known, since it cannot use what it does not
/// have; but one that came back from a peak before most likely lacks what it had there.
double Demand::let_out(const Judgement& judged, Signal signal, double max, const Tunables& tunables) const {
  if (signal == Signal::oom_kill) return max;
  const auto size = static_cast<double>(judged.size);
  if (peaks_.proved() > size + deadband_of(size, tunables)) return std::min(peaks_.proved(), max);
  return std::min(std::max(size, max * tunables.constants.critical_size_ratio) * tunables.critical_growth,
                  max);
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

/// Whether it is well though it has next to nothing left: one that has swap would read from it what it lacks.
bool Demand::is_content(const Judgement& judged, const Reading& reading, Time now,
                        const Tunables& tunables) const {
  return has_swap_ && judged.trust == Trust::believed && reading.signal == Signal::low_available &&
         reading.wanted_cache < tunables.deadband_min && gauge_.quiet_for(now) >= tunables.doubt_after;
}

/// What one that is content needs of what it has. What is idle of it shows only once it is gone, so it is
/// probed as free memory is.
double Demand::probed(const GuestSnapshot& guest, const Judgement& judged, bool held,
                      const Tunables& tunables) {
  const double step = tunables.shrink_ratio_per_second * static_cast<double>(guest.memory);
  return static_cast<double>(judged.size) - (held ? 0 : step);
}

/// Its pressure; and `judged` as it is where what the guest says is doubted.
Reading Demand::read(const GuestSnapshot& guest, Judgement& judged, Source source, Time now,
                     const Tunables& tunables) {
  Reading reading = gauge_.read(guest, judged, source, now, tunables);
  // Once in doubt it stays so, however little cache is left to it, until it shows want.
  doubted_ = source == Source::statistics && reading.signal == Signal::low_available &&
             doubtful(guest, judged, now, tunables);
  content_ = source == Source::statistics && !doubted_ && is_content(judged, reading, now, tunables);
  if (doubted_ || content_) {
    reading.level = Pressure::none;
    reading.signal = Signal::none;
  }
  if (doubted_) {
    const auto cache = static_cast<double>(std::min(*guest.stats->disk_caches, judged.size));
    judged.available = static_cast<Bytes>(tunables.constants.doubted_cache_ratio * cache);
    judged.used = judged.size - judged.available;
  }
  return reading;
}

Demand::Use Demand::use_of(const GuestSnapshot& guest, const Judgement& judged, double margin_factor,
                           const Tunables& tunables) const {
  Use use;
  use.min = static_cast<double>(std::min(guest.limits.min, guest.limits.max));
  use.max = static_cast<double>(guest.limits.max);
  use.used = static_cast<double>(judged.used);
  const double factor =
      margin_factor * std::clamp(guest.limits.margin_factor, 0.0, tunables.constants.margin_factor_max);
  use.margin = factor * margin_of(use.used, tunables);
  use.margin_low = std::clamp(tunables.margin_low, 0.0, 1.0) * use.margin;
  use.swapped = std::min(swapped_, use.max);
  use.growth = std::min(growth_ * seconds(tunables.growth_horizon), use.max);
  // One that grows as it did before is expected to stop where it stopped before, give or take a little.
  const double past = use.used + use.swapped + use.margin - known_;
  use.beyond = known_ <= 0 || past > static_cast<double>(tunables.deadband_min);
  if (!use.beyond) use.growth = std::min(use.growth, std::max(0.0, -past));
  // Margin and cache are the same memory: what is kept available for a burst serves as cache until then.
  use.cache = std::min(std::max(0.0, cache_ - use.margin), use.max);
  // Only the first part of the growth is taken from others: what was expected for later and does not come has
  // hurt nobody.
  use.later = use.growth * (1 - tunables.constants.growth_now_ratio);
  return use;
}

/// Need that falls, falls by half in need_half_life.
double Demand::fade(double steady, Time now, const Tunables& tunables) {
  const double elapsed = smoothed_at_ ? std::max(0.0, seconds(since(*smoothed_at_, now))) : 0.0;
  if (smoothed_at_ && steady < smooth_need_)
    steady += (smooth_need_ - steady) * decay(seconds(tunables.need_half_life), elapsed);
  smooth_need_ = steady;
  smoothed_at_ = now;
  return steady;
}

bool Demand::grows_fast(const Use& use, const Tunables& tunables) const {
  return rise_ > std::max(tunables.constants.fast_growth_ratio * use.used,
                          static_cast<double>(tunables.deadband_min));
}

/// One that grows fast is taken to be on its way to where it was before; or, when it never was higher, to
/// double.
double Demand::claim_of(const Use& use, double need, double peak, const Tunables& tunables) const {
  const double claim = need + use.later;
  if (!grows_fast(use, tunables)) return claim;
  return std::max({claim, peak, use.beyond ? need + use.used : 0.0});
}

Demand::Estimate Demand::update(const GuestSnapshot& guest, Judgement judged, Source source, Time now,
                                double margin_factor, bool held, const Tunables& tunables) {
  const Reading reading = read(guest, judged, source, now, tunables);
  const Bytes cache = source == Source::statistics ? cached(guest, judged) : Bytes{0};
  follow(judged, reading, cache, tunables);
  const Use use = use_of(guest, judged, margin_factor, tunables);
  const double base = use.base();
  const double unfaded = use.used + use.swapped;
  // Margin is for what is not known. One that came back from a peak before is not expected to go beyond that,
  // and from others it takes no more than is enough there.
  const double enough = std::max(working_set(unfaded, tunables), unfaded + use.margin_low + use.cache);
  const double proved = peaks_.proved();
  const bool returning = proved > 0 && enough <= proved + static_cast<double>(tunables.deadband_min);
  const double margin =
      returning ? std::clamp(proved - base - use.cache, use.margin_low, use.margin) : use.margin;

  double working = working_set(base, tunables);
  double wanted = std::max(working, base + margin + use.cache);
  const double killed = std::min(killed_, use.max);
  double rescue = std::max(0.0, killed - wanted);
  wanted += rescue;
  working = std::max(working, killed);
  if (reading.level == Pressure::critical) {
    const double more = std::max(0.0, let_out(judged, reading.signal, use.max, tunables) - wanted);
    rescue += more;
    wanted += more;
    working = wanted;
  }
  const double need = std::clamp(wanted, use.min, use.max);
  // What is remembered is what it really used, with its margin: expected growth and rescue are given up as
  // soon as they turn out not to be wanted.
  const double used_with_margin = std::clamp(unfaded + use.margin + use.cache, use.min, use.max);
  peaks_.note({.need = used_with_margin, .low = enough}, use.margin, now, tunables);
  const double faded = fade(used_with_margin, now, tunables);
  double shown = std::clamp(std::max(wanted + use.later, faded), use.min, use.max);
  if (returning) shown = std::max(need, std::min(shown, proved));
  const double peak = std::min(std::max(shown, peaks_.need()), use.max);
  double claim = claim_of(use, need, peak, tunables);
  if (returning) claim = std::max(need, std::min(claim, proved));
  // Where one that grows fast and never was higher will stop, nobody knows: what is free is there for it.
  const double wished = use.beyond && grows_fast(use, tunables) ? use.max : peak;
  const Bytes with_cache =
      source == Source::statistics ? std::min(judged.used + cache, guest.limits.max) : Bytes{0};

  Estimate estimate;
  estimate.used = judged.used;
  estimate.need = bytes(shown);
  const double most = content_ ? probed(guest, judged, held, tunables) : use.max;
  const auto taken = [&](double level) { return bytes(std::clamp(level, use.min, std::max(most, use.min))); };
  estimate.levels =
      Levels({std::min(guest.limits.min, guest.limits.max), taken(std::min(working, need)), taken(need),
              taken(claim), bytes(wished), with_cache,
              std::min(add(with_cache, reading.wanted_cache), guest.limits.max), guest.limits.max});
  estimate.grow_below =
      bytes(std::clamp(std::max(working, base + use.margin_low + use.cache), use.min, need));
  estimate.hot_cache = bytes(use.cache);
  estimate.surging = use.used - trough_ > use.margin_low;
  const double deadband = deadband_of(static_cast<double>(judged.size), tunables);
  estimate.filling = static_cast<double>(cache) - cache_trough_ > deadband && peak - need <= deadband;
  estimate.doubted = doubted_;
  estimate.pressure = reading.level;
  estimate.signal = reading.signal;
  estimate.terms = {.used = judged.used,
                    .margin = bytes(margin),
                    .growth = bytes(use.growth),
                    .swapped = bytes(use.swapped),
                    .cache = bytes(use.cache),
                    .rescue = bytes(rescue),
                    .recent = bytes(shown - need)};
  return estimate;
}

}  // namespace balloon::policy
