// SPDX-License-Identifier: Apache-2.0
#include "policy/sim/guest_plant.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "policy/rate.h"

namespace balloon::policy::sim {

/// The kernel's low watermark: min_free_kbytes = sqrt(16 · lowmem_kbytes) (mm/page_alloc.c) and 0.1 % of
/// memory above it (vm.watermark_scale_factor 10).
double low_watermark(double memory) { return std::sqrt(memory / 1024 * 16) * 1024 + memory / 1000; }

GuestPlant::GuestPlant(const GuestSpec& spec, const Speeds& speeds)
    : spec_(&spec),
      speeds_(speeds),
      floor_(low_watermark(static_cast<double>(spec.memory))),
      file_read_(spec.disk.bandwidth > 0 ? spec.disk.bandwidth : speeds.file_read) {}

void GuestPlant::boot(Time now) {
  memory_ = {};
  const auto all = static_cast<double>(spec_->memory);
  (spec_->pinned ? memory_.free_backed : memory_.free_unbacked) = all;
  counters_ = {};
  target_ = all;
  commands_.clear();
  hot_evicted_ = idle_anon_ = unreported_ = 0;
  cold_known_ = arc_known_ = streamed_ = split_ = owed_cpu_ = 0;
  killed_until_ = Time{};
  booted_at_ = now + spec_->boot;
  running_ = true;
}

void GuestPlant::start(const Wants& wants) {
  boot(-spec_->boot);
  double& free = spec_->pinned ? memory_.free_backed : memory_.free_unbacked;
  const auto fill = [&](double& part, double wanted) {
    part = std::clamp(wanted, 0.0, free - floor_);
    free -= part;
  };
  fill(memory_.kernel, wants.kernel);
  fill(memory_.anon, wants.anon);
  fill(memory_.hot, wants.hot);
  idle_anon_ = spec_->anon_idle * wants.anon;
}

void GuestPlant::stop() {
  running_ = false;
  memory_ = {};
  stalled_ = host_stalled_ = last_host_swap_in_ = 0;
}

bool GuestPlant::driver_up(Time now) const {
  return running_ && spec_->driver != Driver::absent && now >= booted_at_;
}

void GuestPlant::step(Time now, const Wants& wants, const HostGrant& grant) {
  if (!running_) return;
  share_time(now, wants, grant);
  host_short_ = false;
  stall_seconds_ = host_stall_seconds_ = allocated_ = last_host_swap_in_ = wanted_ = 0;
  idle_anon_ = spec_->anon_idle * wants.anon;

  release(wants);
  move_balloon(now);
  grow(now, wants);
  if (memory_.swapped > 0) swap_back(wants);
  read_files(wants);
  if (memory_.host_swapped() > 0) read_from_host_swap(grant);
  if (spec_->free_page_reporting) report_free();
  if (host_short_) host_stall_seconds_ = kStepSeconds;
  counters_.charged.host_swap += host_stall_seconds_;
  if (owed_cpu_ > 0) {
    host_stall_seconds_ += owed_cpu_;
    counters_.charged.host_cpu += std::exchange(owed_cpu_, 0);
  }
  if (split_ > 0) suffer_small_pages(grant);
  active_ = wants.busy > 0 || wanted_ > kActive * kStepSeconds;
  stalled_ = std::min(1.0, stall_seconds_ / kStepSeconds);
  host_stalled_ = std::min(1.0, host_stall_seconds_ / kStepSeconds);
}

/// Until the host makes huge pages of them again, memory that is mapped by small pages costs time.
void GuestPlant::suffer_small_pages(const HostGrant& grant) {
  split_ = std::clamp(split_ - grant.collapsed, 0.0, memory_.size());
  add_stall(kStepSeconds * spec_->effects.split_cost * split_ / memory_.size(), counters_.charged.split);
}

/// What its CPU can do in this step, and what the host lets it.
void GuestPlant::share_time(Time now, const Wants& wants, const HostGrant& grant) {
  slice_ = kStepSeconds;
  double using_memory = 1;
  if (speeds_.cpus > 0) {
    slice_ = kStepSeconds * grant.cpu / std::max(1.0, tasks(now, wants));
    using_memory = std::max(1, (grows(now, wants) ? 1 : 0) + (reads(wants) ? 1 : 0));
  }
  const double install = speeds_.install * slice_ * using_memory;
  install_left_ = std::min(install, grant.install);
  install_is_hosts_ = grant.install < install;
  touch_left_ = speeds_.touch * slice_ * using_memory;
  swap_left_ = spec_->swap.bandwidth * slice_;
  background_left_ = speeds_.background_reclaim * slice_;
}

double GuestPlant::tasks(Time now, const Wants& wants) const {
  if (!running_) return 0;
  return (balloon_moves(now) || reports() ? 1 : 0) + (grows(now, wants) ? 1 : 0) + (reads(wants) ? 1 : 0) +
         (missed_swap(wants) >= kPageBytes ? 1 : 0) + wants.busy;
}

bool GuestPlant::grows(Time now, const Wants& wants) const {
  return wants.kernel - memory_.kernel >= kPageBytes ||
         anon_wanted(now, wants) - memory_.anon - memory_.swapped >= kPageBytes;
}

/// What programs use and have in the guest's swap.
double GuestPlant::missed_swap(const Wants& wants) const {
  return std::max(0.0, memory_.swapped - std::min(idle_anon_, wants.anon));
}

/// Of memory in use, what is touched in a step.
double GuestPlant::reuse(double bytes) const {
  return bytes * std::min(1.0, kStepSeconds / seconds(speeds_.anon_reuse));
}

double GuestPlant::anon_wanted(Time now, const Wants& wants) const {
  return now < killed_until_ ? std::min(killed_cap_, wants.anon) : wants.anon;
}

/// Programs that want less give it back: of what is swapped and what is not alike. Hot files that are not
/// used any more are cold ones.
void GuestPlant::release(const Wants& wants) {
  const double held = memory_.anon + memory_.swapped;
  if (held > wants.anon && held > 0) {
    const double part = (held - wants.anon) / held;
    const double freed = memory_.anon * part;
    memory_.anon -= freed;
    memory_.free_backed += freed;
    set_swapped(memory_.swapped - memory_.swapped * part);
    unreported_ += freed;
    memory_.merged = std::min(memory_.merged, memory_.anon);
  }
  if (memory_.kernel > wants.kernel) {
    memory_.free_backed += memory_.kernel - wants.kernel;
    memory_.kernel = wants.kernel;
  }
  if (memory_.hot > wants.hot) {
    memory_.cold += memory_.hot - wants.hot;
    memory_.hot = wants.hot;
  }
  hot_evicted_ = std::min(hot_evicted_, wants.hot - memory_.hot);
}

/// A swap in memory takes up a part of what it holds.
void GuestPlant::set_swapped(double bytes) {
  const double zram = bytes * spec_->swap.memory_ratio;
  memory_.free_backed += memory_.zram - zram;
  memory_.zram = zram;
  memory_.swapped = bytes;
}

double GuestPlant::take_free(double bytes) {
  const double there = std::max(0.0, memory_.free() - floor_);
  const double wanted = std::min({bytes, there, touch_left_});
  const double backed = std::min(wanted, memory_.free_backed);
  double fresh = wanted - backed;
  if (fresh > install_left_) {
    fresh = install_left_;
    host_short_ |= install_is_hosts_;
  }
  memory_.free_backed -= backed;
  memory_.free_unbacked -= fresh;
  install_left_ -= fresh;
  touch_left_ -= backed + fresh;
  allocated_ += backed;
  return backed + fresh;
}

double GuestPlant::evict_anon(double bytes) {
  const double room = std::max(0.0, static_cast<double>(spec_->swap.size) - memory_.swapped);
  const double evicted = std::min({bytes, memory_.anon, room, swap_left_ / spec_->swap.write_factor});
  memory_.anon -= evicted;
  memory_.free_backed += evicted;
  set_swapped(memory_.swapped + evicted);
  memory_.merged = std::min(memory_.merged, memory_.anon);
  swap_left_ -= evicted * spec_->swap.write_factor;
  if (spec_->swap.cpu_out > 0) add_stall(evicted / kPageBytes * spec_->swap.cpu_out, counters_.charged.swap);
  counters_.swap_out += evicted;
  counters_.alloc_stalls += evicted / kReclaimBatch;
  counters_.direct_reclaims += evicted / kPageBytes;
  counters_.direct_scans += evicted / kPageBytes / kScanYieldAnon;
  return evicted;
}

/// Up to `bytes` of memory for the caller to put to use, evicting as deep as it may.
double GuestPlant::obtain(double bytes, Depth depth) {
  if (bytes <= 0) return 0;
  wanted_ += bytes;
  const double spare = std::max(0.0, memory_.free() - floor_);
  double missing = std::min(bytes, touch_left_) - spare;
  if (missing > 0 && depth >= Depth::cold) missing -= evict_cold(missing);
  if (missing > 0 && depth >= Depth::hot && memory_.arc > 0) missing -= evict_arc(missing);
  if (missing > 0 && depth >= Depth::hot) missing -= evict_hot(missing);
  if (missing > 0 && depth >= Depth::anon) evict_anon(missing);
  return take_free(bytes);
}

/// Kernel and programs take what they want, down to swapping others out. What cannot be had at all is an OOM.
void GuestPlant::grow(Time now, const Wants& wants) {
  const double kernel = std::max(0.0, wants.kernel - memory_.kernel);
  const double anon = std::max(0.0, anon_wanted(now, wants) - memory_.anon - memory_.swapped);
  if (kernel + anon <= 0) return;
  const double wanted = std::min(kernel + anon, touch_left_);
  const double got_kernel = obtain(std::min(kernel, wanted), Depth::anon);
  memory_.kernel += got_kernel;
  const double got_anon = obtain(std::min(anon, wanted - got_kernel), Depth::anon);
  memory_.anon += got_anon;
  const double missing = wanted - got_kernel - got_anon;
  if (missing < kPageBytes || memory_.free() - floor_ > kPageBytes) return;  // the rest is a matter of speed
  add_stall(kStepSeconds * missing / wanted, counters_.charged.none);
  const double swap_room = static_cast<double>(spec_->swap.size) - memory_.swapped;
  const bool can_swap = swap_room >= kPageBytes && memory_.anon >= kPageBytes;
  if (!can_swap && memory_.cold + memory_.hot < kPageBytes) out_of_memory(now, missing);
}

/// The balloon gives a little, if it may; else the biggest process dies.
void GuestPlant::out_of_memory(Time now, double missing) {
  if (spec_->deflate_on_oom && driver_up(now) && memory_.balloon >= kPageBytes) {
    const double given =
        std::min({missing, memory_.balloon, kOomReturn * kOomEventsPerSecond * kStepSeconds});
    memory_.balloon -= given;
    const double backed = std::min(given, memory_.balloon_backed);
    memory_.balloon_backed -= backed;
    memory_.free_backed += backed;
    memory_.free_unbacked += given - backed;
    counters_.moved += given;
    return;
  }
  const double held = memory_.anon + memory_.swapped;
  if (held < kNothingToKill) return;
  killed_cap_ = held * (1 - kOomKillPart);
  killed_until_ = now + kRestartAfterKill;
  memory_.free_backed += memory_.anon * kOomKillPart;
  memory_.anon *= 1 - kOomKillPart;
  set_swapped(memory_.swapped * (1 - kOomKillPart));
  memory_.merged = std::min(memory_.merged, memory_.anon);
  counters_.oom_kills += 1;
}

/// Programs touch what they use, and so bring it back from swap. When nothing is free for it, another page of
/// its kind goes out for each: as many reads, twice the traffic, and nothing won.
void GuestPlant::swap_back(const Wants& wants) {
  const double working = missed_swap(wants);
  if (working <= 0) return;
  const double touched = working < kPageBytes ? working : reuse(working);
  const SwapDevice& swap = spec_->swap;
  const double served = swap.requests * kSwapCluster * slice_;
  const double got = obtain(std::min({touched, swap_left_, served}), Depth::hot);
  memory_.anon += got;
  set_swapped(memory_.swapped - got);
  swap_left_ -= got;
  const double exchanged =
      std::min({touched - got, swap_left_ / (1 + swap.write_factor), std::max(0.0, served - got)});
  swap_left_ -= (1 + swap.write_factor) * exchanged;
  const double in = got + exchanged;
  counters_.swap_in += in;
  if (swap.memory_ratio == 0) counters_.disk_read += in;
  counters_.swap_out += exchanged;
  counters_.major_faults += in / kSwapCluster;
  double& charged = counters_.charged.swap;
  add_stall(in / kSwapCluster * seconds(swap.latency) / swap.at_once +
                (in + exchanged * swap.write_factor) / swap.bandwidth,
            charged);
  if (in < touched) add_stall(kStepSeconds * (touched - in) / touched, charged);
}

double GuestPlant::available() const {
  const double cache = memory_.cold + memory_.hot;
  return std::max(0.0, memory_.free() - floor_ + cache - std::min(cache / 2, floor_));
}

double GuestPlant::deficit(const Wants& wants) const {
  if (!running_) return demand(wants);
  const double idle = spec_->anon_idle * wants.anon;
  const double anon =
      std::max(0.0, wants.anon - memory_.anon - memory_.swapped) + std::max(0.0, memory_.swapped - idle);
  const double cold = spec_->cold_counts ? std::max(0.0, wants.cold - memory_.cold) : 0;
  const double missing = anon + std::max(0.0, wants.hot - memory_.hot) +
                         std::max(0.0, wants.kernel - memory_.kernel) + cold + memory_.host_swapped_working;
  return missing < kPageBytes ? 0 : missing;
}

double GuestPlant::demand(const Wants& wants) const {
  return wants.anon * (1 - spec_->anon_idle) + wants.hot + wants.kernel +
         (spec_->cold_counts ? wants.cold : 0);
}

}  // namespace balloon::policy::sim
