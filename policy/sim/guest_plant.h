// SPDX-License-Identifier: Apache-2.0
// The memory of one simulated guest: its programs, its kernel's reclaim, its swap and its balloon.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "policy/sim/physics.h"
#include "policy/sim/scenario.h"

namespace balloon::policy::sim {

/// What a guest's programs want now, in bytes (mergeable: a ratio; busy: a part of a CPU, for other things).
struct Wants {
  double anon = 0;
  double hot = 0;
  double cold = 0;
  double kernel = 0;
  double mergeable = 0;
  double busy = 0;
  double stream = 0;  ///< a second: files that are read once and never again
  double arc = 0;
};

/// What the host lets a guest have in one step, in bytes.
struct HostGrant {
  double install = 1e18;  ///< new memory
  double swap_in = 1e18;  ///< reads from its swap device
  double swap_latency = 0;
  double swap_at_once = kFaultsAtOnce;  ///< reads of its swap device that are served at the same time
  double cpu = 1;                       ///< part of a CPU, of the one that it has
  double collapsed = 0;                 ///< small pages that the host makes huge again
};

/// Where a guest's pages are, in bytes. anon + hot + cold + kernel + arc + zram + free = boot memory −
/// balloon.
struct GuestMemory {
  double anon = 0;
  double hot = 0;
  double cold = 0;
  double kernel = 0;
  double arc = 0;            ///< a cache that counts as used (ZFS)
  double zram = 0;           ///< what its own swap takes up, when that is in memory
  double free_backed = 0;    ///< free in the guest, but the host's memory is still there
  double free_unbacked = 0;  ///< free in the guest and in the host
  double balloon = 0;
  double balloon_backed = 0;        ///< of that, what the host could not take (pinned memory)
  double swapped = 0;               ///< anonymous, in the guest's own swap
  double host_swapped_idle = 0;     ///< of the backed pages that nobody uses, in the host's swap
  double host_swapped_working = 0;  ///< of those in use
  double merged = 0;                ///< of anon, saved by KSM

  double free() const { return free_backed + free_unbacked; }
  double size() const { return anon + hot + cold + kernel + arc + zram + free(); }
  double backed() const { return anon + hot + cold + kernel + arc + zram + free_backed + balloon_backed; }
  double host_swapped() const { return host_swapped_idle + host_swapped_working; }
  /// The VMM's resident set, without its own memory. Merged pages count, as they do in Linux.
  double resident() const { return backed() - host_swapped(); }
};

/// Seconds that programs stood still, by what they waited for.
struct Charged {
  double swap = 0;       ///< pages in the guest's own swap, and its CPU where that is zram
  double files = 0;      ///< files that had been in the cache
  double none = 0;       ///< memory that could not be had at all
  double split = 0;      ///< page tables: memory that is mapped by small pages for the balloon
  double host_swap = 0;  ///< the host: its swap, and memory that it did not have
  double host_cpu = 0;   ///< the host's CPU that compressed the guest's pages
};

/// Counters since the guest started.
struct GuestCounters {
  double swap_in = 0;
  double swap_out = 0;
  double refaulted = 0;  ///< bytes of hot file pages read again
  double reread = 0;     ///< bytes of cold file pages (and of an ARC) read again
  double disk_read = 0;  ///< bytes that its disks served: files, and what was in its swap
  double major_faults = 0;
  double oom_kills = 0;
  double alloc_stalls = 0;
  double direct_scans = 0;     ///< pages
  double direct_reclaims = 0;  ///< pages
  double host_swap_in = 0;     ///< bytes
  double host_swap_out = 0;
  double moved = 0;  ///< bytes, by the balloon
  Charged charged;
};

/// Free memory, in bytes, that a guest of `memory` bytes leaves alone: its kernel's low watermark.
double low_watermark(double memory);

class GuestPlant {
 public:
  explicit GuestPlant(const GuestSpec& spec, const Speeds& speeds = {});

  /// It runs and has run for a while: what its programs want is there.
  void start(const Wants& wants);
  /// It is switched on: everything is free; its driver comes up after spec.boot.
  void boot(Time now);
  void stop();

  /// One step of kStep from `now` on.
  void step(Time now, const Wants& wants, const HostGrant& grant);

  /// Takes the balloon's new target, which the driver sees at `at`; until then it follows those before.
  void command(Bytes size, Time at);

  /// Host side: takes so much of what is resident, idle and in use, into host swap, as far as it is there.
  /// Returns how much.
  double swap_out(double idle, double working);
  /// KSM: so much of its anonymous memory is now shared. Returns by how much more memory the host must
  /// provide (pages that were written to), negative when it got some back.
  double merge(double bytes);
  /// CPU time that the host spent on its pages: it comes off what its programs get in the next step.
  void owe_cpu(double seconds) { owed_cpu_ += seconds; }

  bool running() const { return running_; }
  bool driver_up(Time now) const;
  const GuestMemory& memory() const { return memory_; }
  const GuestCounters& counters() const { return counters_; }
  const GuestSpec& spec() const { return *spec_; }
  Bytes actual() const { return static_cast<Bytes>(std::llround(memory_.size())); }
  /// New host memory that this step could use, at most; an estimate from what is missing.
  double wants_installed(const Wants& wants) const;
  /// Things that keep its CPU busy: its balloon or reporting, which take turns; programs that grow, that
  /// read, that miss what is in swap, and that do something else. 0 when it is idle.
  double tasks(Time now, const Wants& wants) const;
  /// Resident memory that nobody uses: what the host's kernel would swap first.
  double idle_resident() const;
  /// MemAvailable, as mm/show_mem.c computes it.
  double available() const;
  /// Working memory that is wanted and not there, in bytes.
  double deficit(const Wants& wants) const;
  /// What `deficit` is a part of.
  double demand(const Wants& wants) const;
  /// Part of the last step that its programs stood still: for its own swap and disk, and for the host.
  double stalled() const { return stalled_; }
  double host_stalled() const { return host_stalled_; }
  double last_host_swap_in() const { return last_host_swap_in_; }
  /// Whether its programs allocated or read in the last step, beyond what a resting system does.
  bool active() const { return active_; }
  /// Bytes that are mapped by small pages because its balloon took their neighbours.
  double split() const { return split_; }

 private:
  enum class Depth : std::uint8_t { free, cold, hot, anon };

  void release(const Wants& wants);
  void share_time(Time now, const Wants& wants, const HostGrant& grant);
  bool balloon_moves(Time now) const;
  bool grows(Time now, const Wants& wants) const;
  bool reads(const Wants& wants) const;
  bool reports() const;
  double missed_swap(const Wants& wants) const;
  void set_swapped(double bytes);
  double reuse(double bytes) const;
  void move_balloon(Time now);
  void move_to_target(Time from, Time to);
  double inflate(double bytes, double time);
  void grow(Time now, const Wants& wants);
  void out_of_memory(Time now, double missing);
  void swap_back(const Wants& wants);
  void read_files(const Wants& wants);
  void read_hot(double missing);
  void read_cold(const Wants& wants);
  double cold_unread(const Wants& wants) const;
  void stream(double bytes);
  void keep_arc(const Wants& wants);
  void suffer_small_pages(const HostGrant& grant);
  double asked_again(double missing) const;
  void read_again(double bytes);
  void read_from_host_swap(const HostGrant& grant);
  void report_free();
  double obtain(double bytes, Depth depth);
  double take_free(double bytes);
  double evict_cold(double bytes);
  double evict_hot(double bytes);
  double evict_anon(double bytes);
  double evict_arc(double bytes);
  void forget_host_swap(double idle_pages_gone, double idle_before);
  double idle_pool() const;
  double anon_wanted(Time now, const Wants& wants) const;
  void add_stall(double seconds, double& why) {
    stall_seconds_ += seconds;
    why += seconds;
  }

  const GuestSpec* spec_;
  Speeds speeds_;
  GuestMemory memory_;
  GuestCounters counters_;
  bool running_ = false;
  Time booted_at_{};
  double floor_ = 0;  ///< free memory that allocations leave: the kernel's low watermark
  double target_ = 0;
  struct Command {
    Time at{};  ///< when the driver sees it
    double target = 0;
  };
  std::vector<Command> commands_;  ///< on their way, in the order in which they were given
  Time out_of_puff_until_{};
  double unreported_ = 0;   ///< freed by programs, and not yet reported; where reporting takes its time
  double hot_evicted_ = 0;  ///< hot pages that were there and are not
  double cold_known_ = 0;   ///< of the cold files, what has been read so far
  double arc_known_ = 0;    ///< of what an ARC would hold, likewise
  double streamed_ = 0;     ///< of memory_.cold, pages of files that are read once
  double split_ = 0;
  double owed_cpu_ = 0;
  double idle_anon_ = 0;  ///< anonymous memory that nobody touches
  double killed_cap_ = 0;
  Time killed_until_{};
  // Budgets and findings of the step that runs.
  double slice_ = kStepSeconds;  ///< CPU time of each of its tasks
  double file_read_ = 0;         ///< bytes a second, of its disk
  double install_left_ = 0;
  bool install_is_hosts_ = false;  ///< the host's grant is the tighter bound
  bool host_short_ = false;
  double touch_left_ = 0;
  double swap_left_ = 0;
  double background_left_ = 0;
  double stall_seconds_ = 0;
  double host_stall_seconds_ = 0;
  double stalled_ = 0;
  double host_stalled_ = 0;
  double allocated_ = 0;
  double wanted_ = 0;  ///< asked for by programs, whether they got it or not
  bool active_ = false;
  double last_host_swap_in_ = 0;
};

}  // namespace balloon::policy::sim
