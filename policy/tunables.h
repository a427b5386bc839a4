// SPDX-License-Identifier: Apache-2.0
// Every number of the law: default, unit, meaning, reason. Those of Tunables can be set in a policy file;
// Constants cannot. Both are in each recording, so that a replay decides by the numbers of its time.
#pragma once

#include <chrono>

#include "policy/types.h"

namespace balloon::policy {

enum class Surplus : std::uint8_t {
  headroom,  ///< free memory goes to the host; guests keep the page cache they have while nobody wants it
  guests,    ///< given to guests by weight, for more page cache
  wanted,    ///< the same, to those that show a want for it; what none of them wants goes to the host
};

/// When the host's memory state changes, by its free memory. A state is entered below its own threshold and
/// left only above the next milder one, so that it does not flap. The ratios are of the minimum that should
/// be free.
struct HostStateRules {
  /// The minimum that should be free; 0: sliding_minimum_free of the host's memory.
  Bytes minimum_free{};
  /// As ESX's memory states are entered: 100 % clear, 64 % soft, 32 % hard, 16 % low (of Mem.MinFreePct).
  double normal = 1.00;     ///< above this every other state is left
  double tight = 0.64;      ///< below this
  double critical = 0.32;   ///< below this
  double emergency = 0.16;  ///< below this
  bool operator==(const HostStateRules&) const = default;
};

/// ESX's sliding scale of Mem.MinFreePct: 6 % of the first 4 GiB, 4 % of the next 8, 2 % of the next 16 and 1
/// % of the rest; 410 MiB of 8 GiB.
constexpr Bytes sliding_minimum_free(Bytes host_memory) {
  struct Step {
    Bytes size;
    unsigned percent;
  };
  constexpr Step steps[] = {{4 * kGiB, 6}, {8 * kGiB, 4}, {16 * kGiB, 2}, {Bytes::max(), 1}};
  Bytes minimum{};
  for (const Step& step : steps) {
    const Bytes part = host_memory < step.size ? host_memory : step.size;
    minimum += part / 100 * step.percent;
    host_memory -= part;
  }
  return minimum;
}

/// What the engine does while the host's memory is in one state.
struct StateActions {
  /// Of memory that nobody waits for, as a share of a guest's boot memory; at least the engine's own.
  double shrink_ratio_per_second = 0;
  double margin_factor = 1;   ///< of every guest's margin: Hyper-V gives up its buffer first, too
  bool pressed_give = false;  ///< guests under pressure give at once, not after all idle memory is asked for
  bool ksm = false;           ///< samepage merging runs, whatever the guests need
  bool full_speed = false;    ///< no hold and no step: every guest is asked for all above its share
  bool operator==(const StateActions&) const = default;
};

struct HostStateActions {
  StateActions normal;
  /// Something on the host takes memory: idle memory comes in twice as fast.
  StateActions tight{.shrink_ratio_per_second = 0.10, .ksm = true};
  /// The next thing to happen is host swap, which hits guests at random: that is worse than any balloon.
  StateActions critical{.shrink_ratio_per_second = 0.25,
                        .margin_factor = 0.5,
                        .pressed_give = true,
                        .ksm = true,
                        .full_speed = true};
  StateActions emergency{.shrink_ratio_per_second = 1.0,
                         .margin_factor = 0.25,
                         .pressed_give = true,
                         .ksm = true,
                         .full_speed = true};
  bool operator==(const HostStateActions&) const = default;
};

/// A guest whose use grows by this part of it from one sample to the next is on its way to something.
constexpr double kFastGrowth = 0.1;
/// Decisions brought forward come no closer than this, so that one serves many events. Of the loop around the
/// law: a replay does not come to it.
constexpr std::chrono::nanoseconds kBurstGap = std::chrono::milliseconds(100);
/// A smaller part of a grow than this is not worth a message: it waits for more to be freed. Of the two-phase
/// rule, after the law: a replay does not come to it.
constexpr Bytes kWorthGranting = 4 * kMiB;

/// The numbers of the law that nobody has to set.
struct Constants {
  /// After a longer silence than this, rate limits count only this much time.
  std::chrono::nanoseconds elapsed_max = std::chrono::seconds(5);

  // Need (policy/demand.h)
  /// The largest multiple of a margin that a guest's own rule makes of it.
  double margin_factor_max = 16;
  /// Of the growth within the horizon, what is needed now: half of it.
  double growth_now_ratio = 0.5;
  /// See kFastGrowth.
  double fast_growth_ratio = kFastGrowth;
  /// Of the page cache in use, what is as dear as programs' own memory. Reading the last of it again now and
  /// then hurts less than others' swapping would.
  double working_set_cache_ratio = 0.5;
  /// What is left available in a working set is at most this part of it, however the thresholds are set.
  double working_set_room_max = 0.5;
  /// Cache that proved to be in use counts as what was read again, and at least this much more than there
  /// was.
  Bytes cache_step = 16 * kMiB;
  /// Of a doubted guest's page cache, what is taken to be available.
  double doubted_cache_ratio = 0.5;
  /// A critical guest counts as having this part of its maximum at least: what a multiple of very little
  /// gives it is not enough either.
  double critical_size_ratio = 0.25;

  /// A guest without swap whose programs were killed for want of memory needs this multiple of the size that
  /// was too small, and so for long: they are started again, want the same, and are killed again.
  double killed_growth = 2;
  std::chrono::nanoseconds killed_half_life = std::chrono::minutes(5);
  /// Kernels before 6.12 do not tell of kills. One whose use falls by more than this part right after it was
  /// critical has most likely killed.
  double killed_fall_ratio = 0.2;

  // Pressure (policy/pressure.h)
  /// What one major fault on a file reads (read_ahead_kb, 128 by default).
  Bytes read_ahead = 128 * kKiB;
  /// A guest that reads back its swap, however slowly, takes its major faults for that and not for files.
  Bytes swap_trickle_per_second = 64 * kKiB;
  /// Files that were read without room to keep them are wanted as cache, half as much after this long: two
  /// guests that read in turn have theirs by weight, and neither has all that is free.
  std::chrono::nanoseconds wanted_half_life = std::chrono::seconds(30);
  /// However big a guest is, with this much available it is not critical: above lie its kernel's watermarks
  /// (vm.min_free_kbytes is 64 MiB at most by itself, 256 MiB with transparent huge pages).
  Bytes critical_max = 256 * kMiB;
  /// Little of a guest is free when it is less than this many times pressure_ratio.
  double little_free_factor = 2;

  // Balloons (policy/progress.h)
  /// One batch of the driver (256 pages, drivers/virtio/virtio_balloon.c): less is no movement.
  Bytes balloon_batch = kMiB;
  /// A stuck guest has clearly more to give when it has this many times as much, and this much more.
  double more_to_give_factor = 2;
  Bytes more_to_give_min = 32 * kMiB;
  /// Of a newly measured speed this part is believed.
  double speed_gain = 0.3;
  /// After this many failures in a row waiting longer changes nothing (and the shift stays small).
  std::uint32_t failures_max = 16;

  // Donors and targets
  /// What is free in guests is taken at once until this part of the headroom is free. The rest of it comes by
  /// itself as memory is probed, or is given back: to take that at once, too, moves more and costs others
  /// their cache.
  double headroom_refill_ratio = 0.5;
  /// For a guest under pressure a change of this part of the deadband is worth making, and one of
  /// deadband_min always.
  double pressed_deadband_ratio = 0.25;
  /// Memory for more page cache is given in steps of at least this part of what a guest has: it is no hurry.
  double cache_grow_ratio = 0.125;
  /// Of what a guest has and has not touched, the part that is expected to be touched before others can be
  /// shrunk for it. With nothing, four guests that wake at once take the host into swap; with all of it,
  /// healthy guests starve beside gigabytes that nobody uses.
  double touched_soon_ratio = 0.2;
  /// With less time than this left a reservation is granted what is there, if that is enough.
  std::chrono::nanoseconds last_moment = std::chrono::seconds(2);
  /// Nothing is foretold that is further off than this.
  std::chrono::nanoseconds foretold_max = std::chrono::hours(1);

  // The reserve (policy/reserve.h)
  /// What of the reserve is kept at least, however small the host: half a percent of 4 GiB would be 20 MiB,
  /// less than a program that starts there takes. A choice: on real hosts of QEMU's guests it changed
  /// nothing, as what they swap is for torn huge pages; in the simulator it is dear with nvme and zram by
  /// 0.01, and pays with a hard disk by 0.03 (cost over foresight's).
  Bytes reserve_kept_min = 64 * kMiB;
  /// The host's own use has risen when it is so much of the host's memory above what it was of late; below
  /// that lie page tables and other small change.
  double own_rise_ratio = 0.01;
  /// What it was of late follows it by half in this time: slower growth is steady use.
  std::chrono::nanoseconds own_half_life = std::chrono::seconds(10);
  /// So long after a rise there is no reason to wait for the next one.
  std::chrono::nanoseconds own_steady_after = std::chrono::minutes(1);
  /// What was lent comes back by half in this time once nobody hurts: at once, it would be missed at once.
  std::chrono::nanoseconds reserve_half_life = std::chrono::minutes(2);

  // The host's state (policy/host_state.h)
  /// Swap traffic and PSI must come down to this part of their threshold before a state is left.
  double leave_ratio = 0.5;
  /// Half of a change in swap traffic is believed after this long: one page read back is no trend.
  std::chrono::nanoseconds swap_half_life = std::chrono::seconds(2);

  // KSM (policy/ksm.h)
  /// The kernel's own default (mm/ksm.c, ksm_thread_sleep_millisecs), and MOM's for hosts of 8 GiB.
  std::chrono::nanoseconds ksm_sleep = std::chrono::milliseconds(20);
  /// Pages to scan each time it wakes. MOM's and ksmtuned's least; more than a busy core's worth is never
  /// asked for (the kernel's advisor stops at 30000 pages, for hosts of terabytes). In steps, so that the
  /// number does not change with every page.
  double ksm_pages_min = 64;
  double ksm_pages_max = 30000;
  double ksm_pages_step = 64;
  /// Merging that saves less than this part of what it looked at runs so many times slower, once it has
  /// looked at more than that part of what can be merged.
  double ksm_vain_ratio = 0.01;
  double ksm_vain_slower = 4;
  double ksm_vain_after_ratio = 0.5;
  /// It stops when so many times as much memory is left as it starts at.
  double ksm_stop_factor = 1.5;
  bool operator==(const Constants&) const = default;
};

struct Tunables {
  /// Host memory that guests never get, beyond what the host's own processes use now. Covers VMM overhead,
  /// page tables, sockets and a burst of the host's own. 5 % of an 8 GiB host.
  Bytes host_reserve = 400 * kMiB;
  /// Of the host's memory, what of the reserve is kept even from guests in want while the host's own use is
  /// steady. MemAvailable leaves out the kernel's own watermarks already: this is for what it misjudges.
  /// Where policy says what the reserve is, all of it is kept: 1.
  double reserve_kept_ratio = 0.005;
  /// How fast a budget that was low may rise again, as a share of the host's memory a second. It falls at
  /// once.
  double budget_rise_ratio_per_second = 0.05;

  /// What a guest should have available beyond what it uses: the larger of the two. Hyper-V's default memory
  /// buffer is 20 %; fast rescue makes some of that needless.
  double margin_ratio = 0.15;
  Bytes margin_min = 128 * kMiB;
  /// A guest's growth and swap traffic are expected to go on for this long: covers one statistics interval,
  /// one control period and the balloon's own time.
  std::chrono::nanoseconds growth_horizon = std::chrono::seconds(3);
  /// A guest with less than this share of its size available is under pressure: it is not shrunk while others
  /// are idle.
  double pressure_ratio = 0.05;
  /// So is one that reads back more than this many bytes a second from its swap: it lacks what it had (Senpai
  /// holds swap traffic of a healthy workload to 1 MiB/s).
  double pressure_swap_in = 1 << 20;
  /// Or one that takes more major faults a second than this while little of it is free: it reads back page
  /// cache that it had. 20 of them, at 128 KiB of read-ahead each, are 2.5 MiB a second.
  double pressure_major_faults = 20;
  /// Or one whose allocations stall more often a second than this and look at 1 MiB of pages a second doing
  /// so (stalls without scans are a cgroup's own limit, not the guest's: Linux 6.12's counters).
  double pressure_alloc_stalls = 10;
  double pressure_direct_scans = 256;  ///< pages a second
  /// Or one whose process waits for memory on the host for more than this share of the time (cgroup PSI).
  double pressure_host_some = 0.10;
  /// Or one whose cgroup reads back more pages a second than this: 4 MiB/s.
  double pressure_host_refaults = 1024;
  /// Below this it is critical: its need is unknown, since it cannot use what it does not have, and is taken
  /// as a multiple of what it has (or of a quarter of its maximum), in one step: a guest that is let out bit
  /// by bit may die before it is out. With 4 every guest is let out to its maximum. 2 % is near the kernel's
  /// own watermarks (vm.min_free_kbytes and its boosts) for guests of 1 to 4 GiB.
  double critical_ratio = 0.02;
  double critical_growth = 4;
  /// A guest whose kernel killed for want of memory counts as critical for this long.
  std::chrono::nanoseconds oom_memory = std::chrono::seconds(10);
  /// Need falls no faster than by half in this time, so that a pause in a load does not cost it its memory.
  std::chrono::nanoseconds need_half_life = std::chrono::seconds(10);
  /// What a guest needed at its peaks it may need again: what it needed in this window of
  /// time and the one before comes before others' page cache. Loads that come and go are rarely further
  /// apart.
  std::chrono::nanoseconds peak_window = std::chrono::minutes(10);
  /// What a guest has swapped out and not in again counts as need, for about this long: it may have been
  /// freed since.
  std::chrono::nanoseconds swapped_half_life = std::chrono::minutes(2);

  /// Page cache that major faults showed to be in use (of mapped files only: read(2) raises none) counts as
  /// need, for about this long: then it is tried again.
  std::chrono::nanoseconds cache_half_life = std::chrono::minutes(10);
  /// What a guest cannot have touched it cannot use: more than it has resident and swapped on the host, by
  /// the larger of these, is a lie. Covers what a kernel sets aside without touching it, and the age of a
  /// sample.
  double untouched_ratio = 0.06;
  Bytes untouched_min = 64 * kMiB;

  /// A guest that says it has next to nothing available while a good part of it is page cache, and that shows
  /// no sign of want (no swapping, faults or stalls) for this long, is doubted: half of the cache is taken to
  /// be available. If it was true after all, the first sign of want ends the doubt.
  std::chrono::nanoseconds doubt_after = std::chrono::seconds(30);
  /// The good part: less cache than this could be a tmpfs.
  double doubt_cache_ratio = 0.25;

  /// A guest is grown once less than this part of its margin is left, and then gets all of it: so that small
  /// changes of a load do not each move its balloon.
  double margin_low = 0.5;
  /// Changes smaller than the larger of these are not made (unless a guest is under pressure).
  double deadband_ratio = 0.02;
  Bytes deadband_min = 16 * kMiB;
  /// A guest that nobody presses for memory shrinks by at most this share of its boot memory a second: its
  /// cache has time to prove itself useful. When others wait for memory the limit does not apply.
  double shrink_ratio_per_second = 0.05;
  /// A guest is not shrunk within this time of being grown, unless others wait (the reverse never waits).
  std::chrono::nanoseconds hold = std::chrono::seconds(10);
  /// Memory that was taken from a guest and had to be given back was not idle: it is then held for this
  /// multiple of the time between two growths, at most hold_max, unless others wait. A load that comes and
  /// goes keeps its memory while nobody else needs it.
  double hold_growth = 1.5;
  std::chrono::nanoseconds hold_max = std::chrono::minutes(10);
  /// Of the memory that guests may have, this part is kept free for whoever needs it next, by taking idle
  /// memory even from guests that are held. A burst's first second is met from it; more of it would cost
  /// guests the files that they read.
  double headroom_ratio = 0.02;

  /// Statistics older than this are not acted on: the guest's size is held.
  std::chrono::nanoseconds stale_after = std::chrono::seconds(10);
  /// A balloon that has freed nothing on its way to its target for this long is stuck: what it has is counted
  /// as it is, and its target is put there, because a driver that cannot reach its target burns guest CPU
  /// retrying five times a second.
  std::chrono::nanoseconds stuck_after = std::chrono::seconds(10);
  /// A balloon that frees less a second than this is as good as one that frees nothing: a page every five
  /// seconds would else count as progress for ever.
  Bytes progress_per_second = 512 * kKiB;
  /// A stuck balloon is tried again after this, and after twice as long each time that fails.
  std::chrono::nanoseconds retry_after = std::chrono::seconds(30);
  std::chrono::nanoseconds retry_max = std::chrono::minutes(16);
  /// A guest without statistics for this long is judged by what the host sees of it.
  std::chrono::nanoseconds blind_after = std::chrono::seconds(60);
  /// How fast a balloon frees memory, bytes a second, until it has shown how fast it is: half of what
  /// virtio-balloon does with touched memory (0.95 GiB/s, HyperAlloc, EuroSys'25).
  double balloon_speed = 512.0 * (1 << 20);

  Surplus surplus = Surplus::wanted;

  HostStateRules states;
  HostStateActions actions;
  /// Host swap traffic, bytes a second, from which on its memory counts as tight, and as critical. wasp-agent
  /// alerts at 200 pages a second.
  double swap_tight = 1 << 20;
  double swap_critical = 16 << 20;
  /// Share of the time that some and all tasks of the host wait for memory (PSI avg10), likewise.
  double pressure_tight = 0.10;
  double pressure_critical = 0.05;

  /// Part of KSM's profit that guests may have; the rest waits for pages to be unmerged when they are written
  /// to.
  double ksm_credit = 0.5;
  /// Merging runs while less than this part of the host's memory is left beyond what guests need, and stops
  /// when half as much again is (MOM and ksmtuned: 20 %).
  double ksm_ratio = 0.20;
  /// How long a scan of all that can be merged should take: the kernel's own advisor aims at 200 s.
  std::chrono::nanoseconds ksm_scan = std::chrono::seconds(200);
  /// The same while the host's memory is critical.
  std::chrono::nanoseconds ksm_scan_critical = std::chrono::seconds(60);

  Constants constants;
  bool operator==(const Tunables&) const = default;
};

}  // namespace balloon::policy
