// SPDX-License-Identifier: Apache-2.0
#include "policy/peers/balloond1/pressure.h"

#include <algorithm>

#include "base/pages.h"

namespace balloon::policy::peers::balloond1 {
namespace {

/// What one major fault on a file reads (read_ahead_kb, 128 by default).
constexpr double kReadAhead = 128 << 10;
/// A guest that reads back its swap, however slowly, takes its major faults for that and not for files.
constexpr double kSwapTrickle = 64 << 10;

}  // namespace

/// The guest's own counters, at a rate since its sample before.
void PressureGauge::read_guest(const GuestSnapshot& guest, const Tunables& tunables) {
  const GuestStats& stats = *guest.stats;
  const bool first = !sampled_at_;
  reading_.elapsed = first ? 0 : std::max(0.0, seconds(since(*sampled_at_, stats.sampled_at)));
  sampled_at_ = stats.sampled_at;
  reading_.swapped_in = swap_in_.rise(stats.swap_in);
  reading_.swapped_out = swap_out_.rise(stats.swap_out);
  const double faults = major_faults_.rise(stats.major_faults);
  const double kills = oom_kills_.rise(stats.oom_kills);
  const double stalls = alloc_stalls_.rise(stats.alloc_stalls);
  const double scans = direct_scans_.rise(stats.direct_scans);
  guest_signal_ = Signal::none;
  lacks_cache_ = false;
  if (kills > 0) oom_at_ = stats.sampled_at;
  // The balloon's own inflation makes the guest reclaim; that is no sign of want.
  const bool inflating = guest.actual > guest.target || stats.actual < sampled_size_;
  sampled_size_ = stats.actual;
  if (!hurt_at_ || kills + reading_.swapped_in + reading_.swapped_out + (inflating ? 0 : stalls) > 0)
    hurt_at_ = stats.sampled_at;
  if (reading_.elapsed <= 0) return;

  const double second = reading_.elapsed;
  // With much of it free a guest that faults reads what it never had: more memory would not help it.
  const bool little_free =
      !stats.free ||
      static_cast<double>(*stats.free) < 2 * tunables.pressure_ratio * static_cast<double>(stats.actual) +
                                             static_cast<double>(tunables.deadband_min);
  if (reading_.swapped_in / second > tunables.pressure_swap_in) {
    guest_signal_ = Signal::swap_in;
  } else if (const double of_files = faults - reading_.swapped_in / static_cast<double>(kPageSize);
             of_files / second > tunables.pressure_major_faults && little_free &&
             reading_.swapped_in / second < kSwapTrickle) {
    guest_signal_ = Signal::major_faults;
    lacks_cache_ = true;
    cache_missed_ = of_files * kReadAhead;
    hurt_at_ = stats.sampled_at;
  } else if (!inflating && stalls / second > tunables.pressure_alloc_stalls &&
             scans / second > tunables.pressure_direct_scans) {
    guest_signal_ = Signal::alloc_stalls;
  }
}

/// What the host sees of it. More memory for the guest does not cure it where it has statistics that say it
/// is well, but it is no guest to take from.
void PressureGauge::read_host(const GuestOnHost& host, Time now, const Tunables& tunables) {
  const double elapsed = host_at_ && now > *host_at_ ? seconds(since(*host_at_, now)) : 0.0;
  host_at_ = now;
  const double swapped = host_swap_in_.rise(host.swap_in);
  const double refaults = host_refaults_.rise(host.refaults);
  if (reading_.level != Pressure::none) return;
  if (elapsed > 0 && swapped / elapsed > tunables.pressure_swap_in) {
    reading_.signal = Signal::host_swap_in;
  } else if (elapsed > 0 && refaults / elapsed > tunables.pressure_host_refaults) {
    reading_.signal = Signal::host_refaults;
  } else if (host.pressure_some && *host.pressure_some > tunables.pressure_host_some) {
    reading_.signal = Signal::host_pressure;
  } else {
    return;
  }
  reading_.level = Pressure::pressed;
}

std::chrono::nanoseconds PressureGauge::quiet_for(Time now) const {
  return hurt_at_ && *hurt_at_ <= now ? since(*hurt_at_, now) : std::chrono::nanoseconds(0);
}

const Reading& PressureGauge::read(const GuestSnapshot& guest, const Judgement& judged, Source source,
                                   Time now, const Tunables& tunables) {
  reading_ = {};
  if (source == Source::statistics && (!sampled_at_ || guest.stats->sampled_at != *sampled_at_))
    read_guest(guest, tunables);
  const double free_share =
      static_cast<double>(judged.available) / static_cast<double>(std::max(judged.size, Bytes{1}));
  if (source == Source::statistics && oom_at_ && within(*oom_at_, now, tunables.oom_memory)) {
    reading_.level = Pressure::critical;
    reading_.signal = Signal::oom_kill;
  } else if (source == Source::statistics && free_share < tunables.critical_ratio) {
    reading_.level = Pressure::critical;
    reading_.signal = Signal::low_available;
  } else if (source == Source::statistics && guest_signal_ != Signal::none) {
    reading_.level = Pressure::pressed;
    reading_.signal = guest_signal_;
    reading_.lacks_cache = lacks_cache_;
    reading_.cache_missed = cache_missed_;
  } else if (source == Source::statistics && free_share < tunables.pressure_ratio) {
    reading_.level = Pressure::pressed;
    reading_.signal = Signal::low_available;
  }
  read_host(guest.on_host, now, tunables);
  return reading_;
}

}  // namespace balloon::policy::peers::balloond1
