// SPDX-License-Identifier: Apache-2.0
// The numbers of the simulated plant, with their sources. Sizes are doubles in bytes: exact up to 2^53.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>

#include "base/pages.h"
#include "policy/types.h"

namespace balloon::policy::sim {

inline constexpr double kPageBytes = static_cast<double>(kPageSize);
inline constexpr double kMiBd = static_cast<double>(kMiB);
inline constexpr double kGiBd = 1 << 30;

/// One step of the plant.
inline constexpr Time kStep = std::chrono::milliseconds(100);
inline constexpr double kStepSeconds = 0.1;
/// PSI's avg10 forgets like this in one step.
inline const double kAvg10Keep = std::exp(-kStepSeconds / 10);

// Speeds of virtio-balloon with 4 KiB pages, bytes a second (HyperAlloc, EuroSys '25, artifact:
// inflate.dref).
inline constexpr double kInflateFree = 1.67 * kGiBd;   ///< over free memory
inline constexpr double kInflateCache = 0.95 * kGiBd;  ///< over page cache, which must be evicted first
inline constexpr double kDeflate = 2.3 * kGiBd;
/// A guest's use of pages that the host has to give memory for first.
inline constexpr double kInstall = 0.7 * kGiBd;
/// A guest's use of pages that are there: clearing them, a page fault each.
inline constexpr double kTouch = 4 * kGiBd;

/// After a failed allocation the driver sleeps so long ("Out of puff", drivers/virtio/virtio_balloon.c).
inline constexpr Time kOutOfPuff = std::chrono::milliseconds(200);
/// What the balloon gives back to a guest that is out of memory, at each such event
/// (VIRTIO_BALLOON_OOM_NR_PAGES).
inline constexpr double kOomReturn = 256 * kPageBytes;
/// Such events a second: each follows a round of direct reclaim that found nothing, some ms.
inline constexpr double kOomEventsPerSecond = 100;
/// Part of its programs' memory that an OOM kill takes: the biggest process.
inline constexpr double kOomKillPart = 0.6;
/// With less than this in programs' hands there is none left that could be killed.
inline constexpr double kNothingToKill = 16 * kMiBd;
/// A killed program is started again after this.
inline constexpr Time kRestartAfterKill = std::chrono::seconds(10);

/// Pages in use are touched within this time, evicted pages of the hot file set asked for again within that.
inline constexpr Time kAnonReuse = std::chrono::seconds(2);
inline constexpr double kHotTouchSeconds = 5;
/// Reads of a guest's disk, bytes a second.
inline constexpr double kDiskBandwidth = 500 * kMiBd;
/// Bytes read by one major fault: swap reads 8 pages ahead (vm.page-cluster 3), files 32 (read_ahead_kb 128).
inline constexpr double kSwapCluster = 8 * kPageBytes;
inline constexpr double kFileCluster = 32 * kPageBytes;
/// Requests of a faulting guest that its device serves at the same time.
inline constexpr double kFaultsAtOnce = 4;

/// What kswapd evicts in the background, bytes a second; beyond that allocations reclaim directly and stall.
inline constexpr double kBackgroundReclaim = 200 * kMiBd;
/// Pages that direct reclaim frees before the allocation goes on (SWAP_CLUSTER_MAX).
inline constexpr double kReclaimBatch = 32 * kPageBytes;
/// Pages freed of pages looked at: clean cold cache, cache in use, anonymous memory.
inline constexpr double kScanYieldCold = 0.9;
inline constexpr double kScanYieldHot = 0.5;
inline constexpr double kScanYieldAnon = 0.3;

/// Free page reporting: pages lie free for this long before they are reported (mm/page_reporting.c), and only
/// whole pageblocks are, which fragmentation leaves so much of.
inline constexpr double kReportSeconds = 2;
inline constexpr double kReportable = 0.85;

// The host. Watermarks are as parts of its memory; vm.watermark_scale_factor and min_free_kbytes of a usual
// set-up for hosts of guests.
inline constexpr double kHostMin = 0.005;
inline constexpr double kHostLow = 0.010;
inline constexpr double kHostHigh = 0.015;
/// Page cache that a host's own processes cannot do without: their programs' text.
inline constexpr double kHostCacheLeast = 64 * kMiBd;
/// Of what the host's kernel swaps, so much is what no guest uses, while there is such: its LRU sees accesses
/// through the secondary page tables only now and then, and free guest pages look like used ones (VSwapper).
inline constexpr double kHostLruSkill = 0.8;
/// How fast the host's page cache fills, bytes a second.
inline constexpr double kHostCacheFill = 200 * kMiBd;

// An ARC, on the host or in a guest (OpenZFS, module/zfs/arc.c; the manual page zfs(4)).
/// It leaves this part of memory free (zfs_arc_sys_free), and keeps that part to itself (zfs_arc_min).
inline constexpr double kArcLeavesFree = 1.0 / 32;
inline constexpr double kArcMin = 1.0 / 32;
inline constexpr double kArcMinLeast = 64 * kMiBd;
inline double arc_minimum(double memory) { return std::max(kArcMin * memory, kArcMinLeast); }
/// When less is free, it gives up, once a second, what is missing and this part of the rest (arc_shrink_shift
/// 7).
inline constexpr double kArcShrinkPart = 1.0 / 128;
/// In one step.
inline double arc_gives(double arc, double least, double missing) {
  const double most = std::max(0.0, arc - least);
  return std::min(most, (most * kArcShrinkPart + missing) * kStepSeconds);
}
/// Bytes that direct reclaim gets of it at a time (zfs_arc_shrinker_limit, 10,000 pages).
inline constexpr double kArcShrinkerCall = 10'000 * kPageBytes;
/// The same by the rule of generator 1, bytes a second.
inline constexpr double kArcShrinkPlain = 100 * kMiBd;

/// What the statistics of a guest at rest are off by drifts within about this time: of neighbours a second
/// apart, differences are a quarter of the deviation (linux-facts.json, noise.rest). Under load samples are
/// independent of each other.
inline constexpr double kNoiseSeconds = 27;
/// Below this rate a guest's allocations and reads are those of a system at rest, bytes a second.
inline constexpr double kActive = 1 * kMiBd;
/// khugepaged looks at 4,096 pages each 10 s (Documentation/admin-guide/mm/transhuge.rst), bytes a second.
inline constexpr double kCollapse = 4096 * kPageBytes / 10;
/// Without any memory for this long, with swap full, the host's kernel kills the biggest process.
inline constexpr Time kHostOomAfter = std::chrono::seconds(1);
/// A VMM that was killed is started again after this.
inline constexpr Time kGuestRestart = std::chrono::seconds(10);
/// The VMM's own memory and its page tables (measured: docs/figures.md).
inline constexpr double kVmmOwn = 6 * kMiBd;

/// While a guest with one CPU reports freed memory, its balloon gets this part of the time: both are work of
/// one CPU's worker pool (kernel/workqueue.c), where the balloon's turn is 256 pages
/// (VIRTIO_BALLOON_ARRAY_PFNS_MAX) and that of reporting 32 of 2 MiB each (PAGE_REPORTING_CAPACITY).
inline constexpr double kBalloonTurn = 1.0 / 64;
/// Less than one such batch waits for the next round of reporting, and keeps nothing busy.
inline constexpr double kReportBatch = 64 * kMiBd;

/// Speeds of the machine that a scenario is about, where they are not those above: of a guest that has a CPU
/// for itself. Bytes a second.
struct Speeds {
  /// Guests that the host's CPUs run at full speed at the same time; more share them. A guest then has one
  /// CPU, which its balloon, its programs' growth, their reading, and its reporting share. 0: enough for all,
  /// and for each.
  std::uint32_t cpus = 0;
  double install = kInstall;
  double touch = kTouch;
  double inflate_free = kInflateFree;
  double inflate_cache = kInflateCache;
  double deflate = kDeflate;
  double file_read = kDiskBandwidth;
  double background_reclaim = kBackgroundReclaim;
  /// Free page reporting of memory that programs freed; 0: each byte about kReportSeconds after it was freed.
  double report = 0;
  Time retry = kOutOfPuff;
  Time anon_reuse = kAnonReuse;
};

}  // namespace balloon::policy::sim
