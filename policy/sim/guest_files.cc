// SPDX-License-Identifier: Apache-2.0
// A guest's page cache: what is evicted, and what is read again.
#include <algorithm>
#include <cmath>

#include "policy/rate.h"
#include "policy/sim/guest_plant.h"

namespace balloon::policy::sim {

bool GuestPlant::reads(const Wants& wants) const {
  return wants.hot - memory_.hot >= kPageBytes ||
         (cold_unread(wants) >= kPageBytes && memory_.free() - floor_ >= kPageBytes) || wants.stream > 0;
}

/// Cold pages go; as often as the kernel errs about which those are, any page.
double GuestPlant::evict_cold(double bytes) {
  const double evicted = std::min(bytes, memory_.cold);
  const double wrong =
      memory_.hot > 0
          ? std::min(evicted * spec_->effects.lru_error * memory_.hot / (memory_.hot + memory_.cold),
                     memory_.hot)
          : 0;
  if (streamed_ > 0 && memory_.cold > 0) streamed_ -= streamed_ * (evicted - wrong) / memory_.cold;
  memory_.cold -= evicted - wrong;
  memory_.hot -= wrong;
  hot_evicted_ += wrong;
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

/// An ARC has its own shrinker, which frees so much a call, and is called once a step.
double GuestPlant::evict_arc(double bytes) {
  const double least = std::min(memory_.arc, arc_minimum(static_cast<double>(spec_->memory)));
  const double evicted = std::min({bytes, memory_.arc - least, kArcShrinkerCall});
  memory_.arc -= evicted;
  memory_.free_backed += evicted;
  return evicted;
}

void GuestPlant::read_files(const Wants& wants) {
  const double missing = wants.hot - memory_.hot;
  if (missing > 0) read_hot(missing);
  read_cold(wants);
  if (wants.arc > 0 || memory_.arc > 0) keep_arc(wants);
  if (wants.stream > 0) stream(std::min(wants.stream, file_read_) * slice_);
}

/// The hot file set is read in, again where it was evicted.
void GuestPlant::read_hot(double missing) {
  const double first = missing - hot_evicted_;  // never read so far
  const double again = hot_evicted_ * std::min(1.0, kStepSeconds / kHotTouchSeconds);
  const double reads = std::min(first + again, file_read_ * slice_);
  const double got = obtain(reads, Depth::cold);
  memory_.hot += got;
  // Where no room could be had, a hot page is evicted for each that is read.
  const double refaulted = std::min(reads, again);
  hot_evicted_ = std::max(0.0, hot_evicted_ - std::max(0.0, got - first));
  counters_.refaulted += refaulted;
  counters_.disk_read += reads;
  counters_.major_faults += reads / kFileCluster * spec_->effects.mapped;
  const Disk& disk = spec_->disk;
  add_stall(refaulted / kFileCluster * seconds(disk.latency) / disk.at_once + refaulted / file_read_,
            counters_.charged.files);
}

/// Cold files fill what is free. What was evicted is asked for again now and then, and then comes from the
/// disk, whether there is room to keep it or it takes the place of another cold page.
void GuestPlant::read_cold(const Wants& wants) {
  double there = memory_.cold - streamed_;
  cold_known_ = std::clamp(std::max(cold_known_, there), 0.0, wants.cold);
  const bool asked = spec_->effects.reread > Time{};
  const double wanted = std::min(cold_unread(wants), spec_->cold_rate * slice_);
  if (wanted > 0) {
    const double got = obtain(wanted, Depth::free);
    memory_.cold += got;
    there += got;
    counters_.disk_read += asked ? wanted : got;
    cold_known_ += wanted;  // it is read, whether there is room to keep it or not
  }
  if (!asked || cold_known_ - there < kPageBytes) return;
  const double missing = cold_known_ - there;
  const double again =
      std::min(spec_->cold_counts ? std::min(missing, spec_->cold_rate * slice_) : asked_again(missing),
               file_read_ * slice_);
  memory_.cold += obtain(again, Depth::free);
  read_again(again);
}

/// Of the cold files, what is read because there is room, and not because it is asked for.
double GuestPlant::cold_unread(const Wants& wants) const {
  return wants.cold - (spec_->effects.reread > Time{} ? cold_known_ : memory_.cold - streamed_);
}

/// Of what was evicted, what is asked for in a step.
double GuestPlant::asked_again(double missing) const {
  return missing * std::min(1.0, kStepSeconds / seconds(spec_->effects.reread));
}

/// Such reads as programs would not have had to wait for.
void GuestPlant::read_again(double bytes) {
  counters_.reread += bytes;
  counters_.disk_read += bytes;
  counters_.major_faults += bytes / kFileCluster * spec_->effects.mapped;
  const Disk& disk = spec_->disk;
  add_stall(bytes / kFileCluster * seconds(disk.latency) / disk.at_once + bytes / file_read_,
            counters_.charged.files);
}

/// Files that are read once and never again push out cold pages, their own among them.
void GuestPlant::stream(double bytes) {
  counters_.disk_read += bytes;
  const double got = obtain(bytes, Depth::cold);
  memory_.cold += got;
  streamed_ += got;
}

/// An ARC grows into what is free, and makes room while less than its part of memory is (physics.h).
void GuestPlant::keep_arc(const Wants& wants) {
  const auto all = static_cast<double>(spec_->memory);
  if (memory_.arc > wants.arc) {
    memory_.free_backed += memory_.arc - wants.arc;
    memory_.arc = wants.arc;
  }
  arc_known_ = std::clamp(std::max(arc_known_, memory_.arc), 0.0, wants.arc);
  const double spare = memory_.free() - kArcLeavesFree * all;
  if (spare < 0) {
    const double given = arc_gives(memory_.arc, arc_minimum(all), -spare);
    memory_.arc -= given;
    memory_.free_backed += given;
  } else {
    const double more =
        std::min({arc_known_ > memory_.arc ? asked_again(arc_known_ - memory_.arc) : wants.arc - memory_.arc,
                  spare, spec_->cold_rate * slice_});
    const double got = obtain(more, Depth::free);
    memory_.arc += got;
    if (arc_known_ <= memory_.arc) counters_.disk_read += got;
  }
  const double missing = arc_known_ - memory_.arc;
  if (missing >= kPageBytes && spec_->effects.reread > Time{})
    read_again(std::min(asked_again(missing), file_read_ * slice_));
}

}  // namespace balloon::policy::sim
