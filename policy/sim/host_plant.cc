// SPDX-License-Identifier: Apache-2.0
#include "policy/sim/host_plant.h"

#include <algorithm>
#include <cmath>

namespace balloon::policy::sim {
namespace {

/// The host is out of memory when so little is left to give in a step.
constexpr double kNothing = 64 * kPageBytes;

double least_cache(double wanted) { return std::min(wanted, kHostCacheLeast); }

}  // namespace

HostPlant::HostPlant(const HostSpec& spec, double page_cache_at_start)
    : spec_(&spec), total_(static_cast<double>(spec.memory)), ksm_(spec.ksm) {
  memory_.cache = page_cache_at_start;
  memory_.free = total_ - memory_.cache;
}

void HostPlant::take_account(std::span<const GuestPlant> guests) {
  double held = 0;
  double swapped = 0;
  for (const GuestPlant& guest : guests) {
    if (!guest.running()) continue;
    const GuestMemory& memory = guest.memory();
    held += memory.resident() - memory.merged + kVmmOwn;
    swapped += memory.host_swapped();
  }
  memory_.guests = held;
  memory_.swapped = swapped;
  memory_.zram = swapped * spec_->swap.memory_ratio;
  memory_.free = total_ - memory_.own - memory_.cache - memory_.arc - held - memory_.zram;
}

/// Own processes are served first: what is free above the kernel's minimum, then what caches can give.
void HostPlant::begin_step(const HostWants& wants) {
  wants_ = wants;
  swap_left_ = spec_->swap.bandwidth * kStepSeconds;
  swap_cpu_ = 0;
  const double min = kHostMin * total_;
  if (wants.own < memory_.own) {
    memory_.free += memory_.own - wants.own;
    memory_.own = wants.own;
  }
  const double growth = wants.own - memory_.own;
  if (growth > memory_.free - min) shrink_caches(growth - (memory_.free - min));
  const double got = std::clamp(memory_.free - min, 0.0, growth);
  memory_.own += got;
  memory_.free -= got;
  own_missing_ = growth - got;
  const auto fill = [&](double& cache, double wanted, double leaves) {
    const double spare = memory_.free - leaves * total_;
    const double more =
        std::clamp(std::min(spare, kHostCacheFill * kStepSeconds), 0.0, std::max(0.0, wanted - cache));
    cache += more;
    memory_.free -= more;
  };
  if (memory_.cache < wants.cache) fill(memory_.cache, wants.cache, kHostHigh);
  if (memory_.arc < wants.arc)
    fill(memory_.arc, wants.arc, spec_->effects.arc_rule ? kArcLeavesFree : kHostHigh);
  if (spec_->effects.arc_rule && memory_.arc > 0) {
    const double short_by = kArcLeavesFree * total_ - memory_.free;
    const double given = short_by > 0 ? arc_gives(memory_.arc, arc_least(), short_by) : 0;
    memory_.arc -= given;
    memory_.free += given;
  }
  const double from_cache = std::max(0.0, memory_.cache - least_cache(wants.cache));
  room_ = std::max(0.0, memory_.free - min) + from_cache;
}

/// Frees up to `bytes` of page cache at once, and what an ARC gives in a step. Returns how much.
double HostPlant::shrink_caches(double bytes) {
  const double cache = std::clamp(memory_.cache - least_cache(wants_.cache), 0.0, bytes);
  memory_.cache -= cache;
  const double arc = spec_->effects.arc_rule
                         ? std::min({arc_spare(), bytes - cache, kArcShrinkerCall})
                         : std::min({memory_.arc, bytes - cache, kArcShrinkPlain * kStepSeconds});
  memory_.arc -= arc;
  memory_.free += cache + arc;
  return cache + arc;
}

double HostPlant::arc_spare() const { return memory_.arc - std::min(memory_.arc, arc_least()); }

double HostPlant::arc_least() const {
  return spec_->arc_min ? static_cast<double>(*spec_->arc_min) : arc_minimum(total_);
}

double HostPlant::swap_budget() const {
  return std::min(swap_left_, spec_->swap.requests * kPageBytes * kStepSeconds);
}

int HostPlant::end_step(Time now, std::span<GuestPlant> guests, std::span<const Wants> wants) {
  if (ksm_.present) merge_pages(guests, wants);
  take_account(guests);
  if (memory_.free < kHostLow * total_) reclaim(guests);
  feel_pressure(guests);
  return kill_when_out_of_memory(now, guests);
}

/// Caches go first, then guests' pages to the swap device, as far as its bandwidth goes.
void HostPlant::reclaim(std::span<GuestPlant> guests) {
  double missing = kHostLow * total_ - memory_.free + own_missing_;
  missing -= shrink_caches(missing);
  if (missing <= 0) return;
  const double room = static_cast<double>(spec_->swap.size) - memory_.swapped;
  const SwapDevice& device = spec_->swap;
  const double out = std::min({missing / (1 - device.memory_ratio), room, swap_left_ / device.write_factor});
  if (out < kPageBytes) return;
  swap_guests_out(guests, out);
  take_account(guests);
}

/// Pages that nobody uses first, as well as the host can tell; then what is in use, of all guests alike.
void HostPlant::swap_guests_out(std::span<GuestPlant> guests, double bytes) {
  double idle = 0;
  double resident = 0;
  for (const GuestPlant& guest : guests) {
    if (!guest.running() || guest.spec().pinned) continue;
    idle += guest.idle_resident();
    resident += guest.memory().resident();
  }
  const double working = std::max(0.0, resident - idle);
  const double of_idle = std::min(bytes * kHostLruSkill, idle);
  const double of_working = std::min(bytes - of_idle, working);
  double out = 0;
  const SwapDevice& device = spec_->swap;
  for (GuestPlant& guest : guests) {
    if (!guest.running() || guest.spec().pinned) continue;
    const double mine = guest.idle_resident();
    const double rest = guest.memory().resident() - mine;
    const double its =
        guest.swap_out(idle > 0 ? of_idle * mine / idle : 0, working > 0 ? of_working * rest / working : 0);
    out += its;
    if (device.cpu_out > 0) guest.owe_cpu(its / kPageBytes * device.cpu_out);
  }
  counters_.swap_out += out;
  swap_left_ -= out * device.write_factor;
  swap_cpu_ += out / kPageBytes * device.cpu_out;
}

/// ksmd merges at its scan rate what can be merged; pages that are written to are copied at once.
void HostPlant::merge_pages(std::span<GuestPlant> guests, std::span<const Wants> wants) {
  double candidates = 0;
  double anon = 0;
  for (std::size_t i = 0; i < guests.size(); ++i) {
    if (!guests[i].running()) continue;
    anon += guests[i].memory().anon;
    if (guests[i].spec().limits.ksm)
      candidates += std::max(0.0, wants[i].mergeable * guests[i].memory().anon - guests[i].memory().merged);
  }
  const double sleep = std::max(1e-3, std::chrono::duration<double>(ksm_.sleep).count());
  const double scanned =
      ksm_.run ? static_cast<double>(ksm_.pages_to_scan) * kPageBytes * kStepSeconds / sleep : 0;
  // It comes by mergeable pages as often as they are among all that it scans.
  const double found = anon > 0 ? std::min(candidates, scanned * candidates / anon) : 0;
  merged_ = 0;
  for (std::size_t i = 0; i < guests.size(); ++i) {
    if (!guests[i].running()) continue;
    const GuestMemory& memory = guests[i].memory();
    const double most = guests[i].spec().limits.ksm ? wants[i].mergeable * memory.anon : 0;
    const double more = candidates > 0 ? found * std::max(0.0, most - memory.merged) / candidates : 0;
    const double next = std::min(memory.merged + more, most);
    if (next != memory.merged) guests[i].merge(next);
    merged_ += next;
  }
  mergeable_unmerged_ = std::max(0.0, anon - merged_);
}

void HostPlant::set_ksm(const KsmPlan& plan) {
  ksm_.run = plan.run;
  ksm_.pages_to_scan = plan.pages_to_scan;
  ksm_.sleep = plan.sleep;
}

void HostPlant::feel_pressure(std::span<const GuestPlant> guests) {
  double none = 1;
  double all = 1;
  bool anybody = false;
  double in = 0;
  for (const GuestPlant& guest : guests) {
    if (!guest.running()) continue;
    none *= 1 - guest.host_stalled();
    all *= guest.host_stalled();
    in += guest.last_host_swap_in();
    anybody = true;
  }
  if (wants_.own > 0) {
    const double own = std::min(1.0, own_missing_ / wants_.own);
    none *= 1 - own;
    all *= own;
  }
  const double some = 1 - none;
  const double full = anybody ? all : 0;
  counters_.swap_in += in;
  swap_cpu_ += in / kPageBytes * spec_->swap.cpu_in;
  counters_.swap_cpu_seconds += swap_cpu_;
  counters_.some_seconds += some * kStepSeconds;
  counters_.full_seconds += full * kStepSeconds;
  some_ = some + (some_ - some) * kAvg10Keep;
  full_ = full + (full_ - full) * kAvg10Keep;
}

int HostPlant::kill_when_out_of_memory(Time now, std::span<GuestPlant> guests) {
  const bool out = memory_.free - kHostMin * total_ < kNothing &&
                   static_cast<double>(spec_->swap.size) - memory_.swapped < kNothing &&
                   memory_.cache - least_cache(wants_.cache) < kNothing;
  if (!out) {
    short_since_ = Time{-1};
    return -1;
  }
  if (short_since_ < Time{}) short_since_ = now;
  if (now - short_since_ < kHostOomAfter) return -1;
  int biggest = -1;
  double most = 0;
  for (std::size_t i = 0; i < guests.size(); ++i) {
    if (!guests[i].running() || guests[i].memory().resident() <= most) continue;
    most = guests[i].memory().resident();
    biggest = static_cast<int>(i);
  }
  short_since_ = Time{-1};
  if (biggest >= 0) counters_.oom_kills += 1;
  return biggest;
}

double HostPlant::available() const {
  const double low = kHostLow * total_;
  return std::max(0.0, memory_.free - low + memory_.cache - std::min(memory_.cache / 2, low));
}

Bytes HostPlant::ksm_sharing() const { return static_cast<Bytes>(merged_); }
/// A shared page stands for about four others: what fleets of equal guests show.
Bytes HostPlant::ksm_shared() const { return static_cast<Bytes>(merged_ / 4); }
Bytes HostPlant::ksm_unshared() const { return static_cast<Bytes>(mergeable_unmerged_); }

}  // namespace balloon::policy::sim
