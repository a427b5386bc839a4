#include "policy/sim/guest_plant.h"

#include <algorithm>
#include <cmath>

namespace balloon::policy::sim {
namespace {

double seconds(Time time) { return std::chrono::duration<double>(time).count(); }

}  // namespace

/// The kernel's low watermark: min_free_kbytes = sqrt(16 · lowmem_kbytes) (mm/page_alloc.c) and 0.1 % of
/// memory above it (vm.watermark_scale_factor 10).
double low_watermark(double memory) { return std::sqrt(memory / 1024 * 16) * 1024 + memory / 1000; }

GuestPlant::GuestPlant(const GuestSpec& spec, const Speeds& speeds)
    : spec_(&spec), speeds_(speeds), floor_(low_watermark(static_cast<double>(spec.memory))) {}

void GuestPlant::boot(Time now) {
  memory_ = {};
  const auto all = static_cast<double>(spec_->memory);
  (spec_->pinned ? memory_.free_backed : memory_.free_unbacked) = all;
  counters_ = {};
  target_ = all;
  commands_.clear();
  hot_evicted_ = idle_anon_ = unreported_ = 0;
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

void GuestPlant::command(Bytes size, Time at) {
  commands_.push_back({at, static_cast<double>(std::min(size, spec_->memory))});
}

void GuestPlant::step(Time now, const Wants& wants, const HostGrant& grant) {
  if (!running_) return;
  share_time(now, wants, grant);
  host_short_ = false;
  stall_seconds_ = host_stall_seconds_ = allocated_ = last_host_swap_in_ = 0;
  idle_anon_ = spec_->anon_idle * wants.anon;

  release(wants);
  move_balloon(now);
  grow(now, wants);
  if (memory_.swapped > 0) swap_back(wants);
  read_files(wants);
  if (memory_.host_swapped() > 0) read_from_host_swap(grant);
  if (spec_->free_page_reporting) report_free();
  if (host_short_) host_stall_seconds_ = kStepSeconds;
  stalled_ = std::min(1.0, stall_seconds_ / kStepSeconds);
  host_stalled_ = std::min(1.0, host_stall_seconds_ / kStepSeconds);
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

bool GuestPlant::balloon_moves(Time now) const {
  if (!driver_up(now)) return false;
  const double size = memory_.size();
  return size + kPageBytes <= target_ || (size >= target_ + kPageBytes && now >= out_of_puff_until_);
}

bool GuestPlant::grows(Time now, const Wants& wants) const {
  return wants.kernel - memory_.kernel >= kPageBytes ||
         anon_wanted(now, wants) - memory_.anon - memory_.swapped >= kPageBytes;
}

bool GuestPlant::reads(const Wants& wants) const {
  return wants.hot - memory_.hot >= kPageBytes ||
         (wants.cold - memory_.cold >= kPageBytes && memory_.free() - floor_ >= kPageBytes);
}

bool GuestPlant::reports() const {
  return speeds_.report > 0 && spec_->free_page_reporting && !spec_->pinned && unreported_ >= kReportBatch;
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
    memory_.swapped -= memory_.swapped * part;
    memory_.anon -= freed;
    memory_.free_backed += freed;
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

double GuestPlant::evict_cold(double bytes) {
  const double evicted = std::min(bytes, memory_.cold);
  memory_.cold -= evicted;
  memory_.free_backed += evicted;
  const double direct = std::max(0.0, evicted - background_left_);
  background_left_ -= evicted - direct;
  if (direct > 0) {
    counters_.alloc_stalls += direct / kReclaimBatch;
    counters_.direct_reclaims += direct / kPageBytes;
    counters_.direct_scans += direct / kPageBytes / kScanYieldCold;
  }
  return evicted;
}

double GuestPlant::evict_hot(double bytes) {
  const double evicted = std::min(bytes, memory_.hot);
  memory_.hot -= evicted;
  hot_evicted_ += evicted;
  memory_.free_backed += evicted;
  counters_.alloc_stalls += evicted / kReclaimBatch;
  counters_.direct_reclaims += evicted / kPageBytes;
  counters_.direct_scans += evicted / kPageBytes / kScanYieldHot;
  return evicted;
}

double GuestPlant::evict_anon(double bytes) {
  const double room = std::max(0.0, static_cast<double>(spec_->swap.size) - memory_.swapped);
  const double evicted = std::min({bytes, memory_.anon, room, swap_left_});
  memory_.anon -= evicted;
  memory_.swapped += evicted;
  memory_.free_backed += evicted;
  memory_.merged = std::min(memory_.merged, memory_.anon);
  swap_left_ -= evicted;
  counters_.swap_out += evicted;
  counters_.alloc_stalls += evicted / kReclaimBatch;
  counters_.direct_reclaims += evicted / kPageBytes;
  counters_.direct_scans += evicted / kPageBytes / kScanYieldAnon;
  return evicted;
}

/// Up to `bytes` of memory for the caller to put to use, evicting as deep as it may.
double GuestPlant::obtain(double bytes, Depth depth) {
  if (bytes <= 0) return 0;
  const double spare = std::max(0.0, memory_.free() - floor_);
  double missing = std::min(bytes, touch_left_) - spare;
  if (missing > 0 && depth >= Depth::cold) missing -= evict_cold(missing);
  if (missing > 0 && depth >= Depth::hot) missing -= evict_hot(missing);
  if (missing > 0 && depth >= Depth::anon) evict_anon(missing);
  return take_free(bytes);
}

void GuestPlant::move_balloon(Time now) {
  if (!driver_up(now)) return;
  Time from = now;
  std::size_t seen = 0;
  for (; seen < commands_.size() && commands_[seen].at < now + kStep; ++seen) {
    const Time at = std::max(from, commands_[seen].at);
    move_to_target(from, at);
    target_ = commands_[seen].target;
    out_of_puff_until_ = Time{};
    from = at;
  }
  commands_.erase(commands_.begin(), commands_.begin() + static_cast<std::ptrdiff_t>(seen));
  move_to_target(from, now + kStep);
}

/// What the driver does between two moments of a step.
void GuestPlant::move_to_target(Time from, Time to) {
  double time = seconds(to - from) * slice_ / kStepSeconds;
  if (time <= 0) return;
  if (reports()) time *= kBalloonTurn;
  const double size = memory_.size();
  if (size + kPageBytes <= target_) {
    const double given = std::min(target_ - size, speeds_.deflate * time);
    memory_.balloon -= given;
    const double backed = std::min(given, memory_.balloon_backed);
    memory_.balloon_backed -= backed;
    memory_.free_backed += backed;
    memory_.free_unbacked += given - backed;
    counters_.moved += given;
  } else if (size >= target_ + kPageBytes && from >= out_of_puff_until_) {
    double wanted = size - target_;
    if (spec_->driver == Driver::slow) wanted = std::min(wanted, kPageBytes / 5 * time);
    if (spec_->driver == Driver::stuck)
      wanted = std::min(wanted, std::max(0.0, size - static_cast<double>(spec_->stuck_at)));
    const double taken = inflate(wanted, time);
    if (taken < wanted && taken < 1) out_of_puff_until_ = from + speeds_.retry;
  }
}

/// Takes free memory first, then what eviction can free, each at its speed, within `time` seconds.
double GuestPlant::inflate(double bytes, double time) {
  double taken = 0;
  const auto take = [&](double backed, double fresh) {
    memory_.free_backed -= backed;
    memory_.free_unbacked -= fresh;
    memory_.balloon += backed + fresh;
    if (spec_->pinned) memory_.balloon_backed += backed + fresh;
    taken += backed + fresh;
  };
  const double idle_before = idle_pool();
  const double free = std::clamp(memory_.free() - floor_, 0.0, std::min(bytes, speeds_.inflate_free * time));
  const double backed = std::min(free, memory_.free_backed);
  take(backed, free - backed);
  time -= free / speeds_.inflate_free;
  const auto over = [&](double speed, double available, auto evict) {
    const double wanted = std::min({bytes - taken, available, std::max(0.0, speed * time)});
    if (wanted <= 0) return;
    const double evicted = evict(wanted);
    take(evicted, 0);
    time -= evicted / speed;
  };
  double idle_gone = backed;
  over(speeds_.inflate_cache, memory_.cold, [&](double part) {
    const double evicted = evict_cold(part);
    idle_gone += evicted;
    return evicted;
  });
  over(speeds_.inflate_cache, memory_.hot, [&](double part) { return evict_hot(part); });
  over(spec_->swap.bandwidth, memory_.anon, [&](double part) { return evict_anon(part); });
  counters_.moved += taken;
  if (memory_.host_swapped_idle > 0) forget_host_swap(idle_gone, idle_before);
  return taken;
}

/// Pages that went into the balloon need no place in the host's swap any more.
void GuestPlant::forget_host_swap(double idle_pages_gone, double idle_before) {
  if (idle_before <= 0) return;
  memory_.host_swapped_idle *= 1 - std::min(1.0, idle_pages_gone / idle_before);
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
  add_stall(kStepSeconds * missing / wanted);
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
  memory_.swapped *= 1 - kOomKillPart;
  memory_.merged = std::min(memory_.merged, memory_.anon);
  counters_.oom_kills += 1;
}

/// Programs touch what they use, and so bring it back from swap. When nothing is free for it, another page of
/// its kind goes out for each: as many reads, twice the traffic, and nothing won.
void GuestPlant::swap_back(const Wants& wants) {
  const double working = missed_swap(wants);
  if (working <= 0) return;
  const double touched = working < kPageBytes ? working : reuse(working);
  const double got = obtain(std::min(touched, swap_left_), Depth::hot);
  memory_.swapped -= got;
  memory_.anon += got;
  swap_left_ -= got;
  const double exchanged = std::min(touched - got, swap_left_ / 2);
  swap_left_ -= 2 * exchanged;
  const double in = got + exchanged;
  counters_.swap_in += in;
  counters_.swap_out += exchanged;
  counters_.major_faults += in / kSwapCluster;
  add_stall(in / kSwapCluster * seconds(spec_->swap.latency) / kFaultsAtOnce +
            (in + exchanged) / spec_->swap.bandwidth);
  if (in < touched) add_stall(kStepSeconds * (touched - in) / touched);
}

/// The hot file set is read in, again where it was evicted; cold files fill what is free.
void GuestPlant::read_files(const Wants& wants) {
  const double missing = wants.hot - memory_.hot;
  if (missing > 0) {
    const double first = missing - hot_evicted_;  // never read so far
    const double again = hot_evicted_ * std::min(1.0, kStepSeconds / kHotTouchSeconds);
    const double reads = std::min(first + again, speeds_.file_read * slice_);
    const double got = obtain(reads, Depth::cold);
    memory_.hot += got;
    // Where no room could be had, a hot page is evicted for each that is read.
    const double refaulted = std::min(reads, again);
    hot_evicted_ = std::max(0.0, hot_evicted_ - std::max(0.0, got - first));
    counters_.refaulted += refaulted;
    counters_.major_faults += reads / kFileCluster;
    add_stall(refaulted / kFileCluster * kDiskLatency / kFaultsAtOnce + refaulted / speeds_.file_read);
  }
  const double cold = std::min(wants.cold - memory_.cold, spec_->cold_rate * slice_);
  if (cold > 0) memory_.cold += obtain(cold, Depth::free);
}

double GuestPlant::idle_pool() const {
  return memory_.cold + memory_.free_backed + std::clamp(idle_anon_ - memory_.swapped, 0.0, memory_.anon);
}

/// What is used comes back from the host's swap: working pages, and idle ones that were put to use.
void GuestPlant::read_from_host_swap(const HostGrant& grant) {
  const double idle = idle_pool();
  const double reused = std::min(memory_.host_swapped_idle,
                                 std::max(memory_.host_swapped_idle * allocated_ / (idle + allocated_ + 1),
                                          memory_.host_swapped_idle - idle));
  const double working = memory_.anon + memory_.hot + memory_.kernel;
  memory_.host_swapped_working = std::min(memory_.host_swapped_working, working);
  const double touched = reuse(memory_.host_swapped_working);
  const double wanted = reused + touched;
  if (wanted <= 0) return;
  // Guests' pages lie scattered in the swap device, so that reading ahead is of no use (VSwapper, ASPLOS
  // '14).
  const double by_latency =
      grant.swap_latency > 0 ? kFaultsAtOnce * kPageBytes / grant.swap_latency * kStepSeconds : wanted;
  const double part = std::min({wanted, by_latency, grant.swap_in, install_left_}) / wanted;
  const double in = wanted * part;
  memory_.host_swapped_idle -= reused * part;
  memory_.host_swapped_working -= touched * part;
  // Pages that could not be read yet are in use all the same.
  const double late = reused * (1 - part);
  memory_.host_swapped_idle -= late;
  memory_.host_swapped_working += late;
  install_left_ -= in;
  last_host_swap_in_ = in;
  counters_.host_swap_in += in;
  host_stall_seconds_ += in / kPageBytes * grant.swap_latency / kFaultsAtOnce + kStepSeconds * (1 - part);
}

void GuestPlant::report_free() {
  if (spec_->pinned) return;
  const double reportable = memory_.free_backed * kReportable;
  double reported = reportable * (kStepSeconds / kReportSeconds);
  if (speeds_.report > 0) {
    unreported_ = std::min(unreported_, memory_.free());
    if (!reports()) return;
    reported = std::min({reportable, unreported_, speeds_.report * slice_});
    unreported_ = std::max(0.0, unreported_ - speeds_.report * slice_);
  }
  if (reported < 1) return;
  const double before = idle_pool();
  memory_.free_backed -= reported;
  memory_.free_unbacked += reported;
  if (memory_.host_swapped_idle > 0) forget_host_swap(reported, before);
}

double GuestPlant::swap_out(double idle, double working) {
  if (spec_->pinned) return 0;
  const double idle_out = std::min(idle, idle_resident());
  const double working_out = std::min(working, memory_.resident() - idle_out - idle_resident());
  memory_.host_swapped_idle += idle_out;
  memory_.host_swapped_working += std::max(0.0, working_out);
  const double out = idle_out + std::max(0.0, working_out);
  counters_.host_swap_out += out;
  return out;
}

double GuestPlant::merge(double bytes) {
  const double change = memory_.merged - bytes;
  memory_.merged = bytes;
  return change;
}

double GuestPlant::idle_resident() const {
  return spec_->pinned ? 0 : std::max(0.0, idle_pool() - memory_.host_swapped_idle);
}

double GuestPlant::wants_installed(const Wants& wants) const {
  const double growth =
      std::max(0.0, wants.anon - memory_.anon - memory_.swapped) +
      std::max(0.0, wants.kernel - memory_.kernel) + std::max(0.0, wants.hot - memory_.hot) +
      std::clamp(wants.cold - memory_.cold, 0.0, spec_->cold_rate * kStepSeconds) + memory_.swapped;
  const double fresh = std::min(std::max(0.0, growth - memory_.free_backed), memory_.free_unbacked);
  return std::min(fresh + memory_.host_swapped_working, speeds_.install * kStepSeconds);
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
