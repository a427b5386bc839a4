// SPDX-License-Identifier: Apache-2.0
#include "policy/sim/stats_channel.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/pages.h"
#include "policy/rate.h"

namespace balloon::policy::sim {
namespace {

Bytes whole(double bytes) { return whole_pages(static_cast<Bytes>(std::max(0.0, bytes))); }
std::uint64_t count(double number) { return static_cast<std::uint64_t>(std::max(0.0, number)); }

/// A liar's counters fall by so much each time.
constexpr double kBackwardsStep = 1 << 20;
/// Of the channel's own random numbers, those for noise.
constexpr std::uint64_t kNoiseStream = 1;

}  // namespace

StatsChannel::StatsChannel(const StatsSpec& spec, Time offset, std::uint64_t seed, bool as_balloond)
    : spec_(spec),
      random_(seed),
      trembling_(mix_seed(seed, kNoiseStream)),
      as_balloond_(as_balloond),
      next_(offset) {}

void StatsChannel::reset(Time now) {
  registered_.join(now);
  delivered_.reset();
  waiting_ = 0;
  newest_.reset();
  before_.reset();
  frozen_.reset();
}

void StatsChannel::step(Time now, const GuestPlant& guest, bool silent, Lie lie) {
  registered_.driver(now, guest.driver_up(now));
  if (!spec_.present) return;
  if (now >= next_) {
    next_ += std::max(spec_.period, kStep);
    if (next_ <= now) next_ = now + spec_.period;
    const bool lost = spec_.loss > 0 && random_.chance(spec_.loss);
    if (guest.driver_up(now) && !silent && !lost && waiting_ < under_way_.size()) {
      const double late = spec_.jitter > Time{} ? random_.uniform() : 0;
      const auto jitter = Time(static_cast<std::int64_t>(static_cast<double>(spec_.jitter.count()) * late));
      Sample& sent = under_way_[waiting_++];
      sent.stats = sample(now, guest);
      sent.arrives = now + spec_.age + jitter;
      falsify(sent.stats, lie == Lie::none ? spec_.lie : lie);
    }
  }
  std::size_t kept = 0;
  for (std::size_t i = 0; i < waiting_; ++i) {
    if (under_way_[i].arrives > now) {
      if (kept != i) under_way_[kept] = under_way_[i];
      ++kept;
    } else if (linked() && (!delivered_ || *delivered_ < under_way_[i].stats.sampled_at)) {
      deliver(under_way_[i].stats, guest.spec().memory);
    }
  }
  waiting_ = kept;
}

void StatsChannel::deliver(const GuestStats& stats, Bytes memory) {
  delivered_ = stats.sampled_at;
  if (!as_balloond_) {
    before_ = std::exchange(newest_, stats);
    return;
  }
  registered_.take(stats, memory);
  before_ = std::exchange(newest_, registered_.usable());
}

std::optional<GuestStats> StatsChannel::seen(Time now, Bytes actual, Time stale_after) const {
  return as_balloond_ ? registered_.seen(now, actual, stale_after) : newest_;
}

/// What comes and goes all the time is free at one sample and not at the next: bytes. A part of it is still
/// as it was at the last sample.
double StatsChannel::noise(Time now, const GuestPlant& guest) {
  const GuestEffects& effects = guest.spec().effects;
  const double deviation = guest.active() ? effects.noise_load : effects.noise_rest;
  if (deviation <= 0) return 0;
  const double kept = guest.active() ? 0 : std::exp(-seconds(now - noisy_at_) / kNoiseSeconds);
  noisy_at_ = now;
  noise_ = noise_ * kept + trembling_.normal() * std::sqrt(1 - kept * kept);
  return noise_ * deviation * static_cast<double>(guest.spec().memory);
}

GuestStats StatsChannel::sample(Time now, const GuestPlant& guest) {
  const GuestMemory& memory = guest.memory();
  const GuestCounters& counters = guest.counters();
  GuestStats stats;
  stats.sampled_at = now;
  stats.actual = whole_pages(guest.actual());
  // With deflate-on-OOM the balloon counts as used memory, without it as memory that is not there
  // (drivers/virtio/virtio_balloon.c, adjust_managed_page_count).
  stats.total = guest.spec().deflate_on_oom ? guest.spec().memory : stats.actual;
  const double noise = this->noise(now, guest);
  stats.available = whole(std::min(guest.available() + noise, memory.size()));
  if (spec_.caches) {
    stats.free = whole(std::min(memory.free() + noise, memory.size()));
    stats.disk_caches = whole(memory.cold + memory.hot);
  }
  if (spec_.swap) {
    stats.swap_in = whole(counters.swap_in);
    stats.swap_out = whole(counters.swap_out);
    stats.major_faults = count(counters.major_faults);
  }
  if (spec_.disk_reads) stats.disk_read = whole(counters.disk_read);
  if (spec_.pressure) {
    stats.oom_kills = count(counters.oom_kills);
    stats.alloc_stalls = count(counters.alloc_stalls);
    stats.direct_scans = count(counters.direct_scans);
    stats.direct_reclaims = count(counters.direct_reclaims);
  }
  return stats;
}

void StatsChannel::falsify(GuestStats& stats, Lie lie) {
  switch (lie) {
    case Lie::none:
      return;
    case Lie::available_zero:
      stats.available = Bytes{0};
      return;
    case Lie::available_unknown:
      stats.available = Bytes::max();
      return;
    case Lie::available_above_total:
      stats.available = stats.total.value_or(stats.actual) * 2;
      return;
    case Lie::counters_back:
      backwards_ += kBackwardsStep;
      stats.swap_in = whole(1e12 - backwards_);
      stats.swap_out = whole(2e12 - backwards_);
      stats.major_faults = count(1e9 - backwards_ / kPageBytes);
      return;
    case Lie::frozen: {
      if (!frozen_) frozen_ = stats;
      const Time at = stats.sampled_at;
      stats = *frozen_;
      stats.sampled_at = at;
      return;
    }
  }
}

}  // namespace balloon::policy::sim
