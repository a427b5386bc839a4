// SPDX-License-Identifier: Apache-2.0
// The simulated host: its own processes and caches, its swap device, its reclaim, KSM and pressure.
#pragma once

#include <span>
#include <vector>

#include "policy/sim/guest_plant.h"
#include "policy/sim/scenario.h"

namespace balloon::policy::sim {

/// What the host's own processes want now, in bytes.
struct HostWants {
  double own = 0;
  double cache = 0;
  double arc = 0;
};

/// own + cache + arc + zram + Σ (guests' resident − merged + their VMM's own) + free = total, in bytes.
struct HostMemory {
  double own = 0;
  double cache = 0;
  double arc = 0;
  double guests = 0;  ///< resident less merged, with the VMMs' own
  double zram = 0;    ///< what is swapped, where the swap device is in memory
  double free = 0;
  double swapped = 0;
};

struct HostCounters {
  double swap_in = 0;   ///< bytes
  double swap_out = 0;  ///< bytes
  double oom_kills = 0;
  double swap_cpu_seconds = 0;  ///< to compress and decompress what is swapped
  double some_seconds = 0;      ///< some of what runs stood still for memory
  double full_seconds = 0;      ///< all of it did
};

class HostPlant {
 public:
  HostPlant(const HostSpec& spec, double page_cache_at_start);

  /// Before the guests' step: own processes take what they want; finds what guests may have.
  void begin_step(const HostWants& wants);
  /// New memory that guests may have in this step, altogether.
  double room() const { return room_; }
  /// Bytes that may be read from the swap device in this step, altogether.
  double swap_budget() const;
  /// CPU seconds that swapping took in the last step.
  double swap_cpu() const { return swap_cpu_; }
  /// After it: takes account, merges, reclaims. Returns the guest that was killed for want of memory, or -1.
  int end_step(Time now, std::span<GuestPlant> guests, std::span<const Wants> wants);
  /// Recomputes what guests hold, when they came or went between steps.
  void take_account(std::span<const GuestPlant> guests);

  const HostMemory& memory() const { return memory_; }
  const HostCounters& counters() const { return counters_; }
  const KsmSpec& ksm() const { return ksm_; }
  void set_ksm(const KsmPlan& plan);
  double available() const;
  /// What its ARC would give before it is at its minimum, bytes.
  double arc_spare() const;
  double pressure_some() const { return some_; }
  double pressure_full() const { return full_; }
  double total() const { return total_; }
  double low_watermark() const { return kHostLow * total_; }
  const SwapDevice& swap() const { return spec_->swap; }
  Bytes ksm_shared() const;
  Bytes ksm_sharing() const;
  Bytes ksm_unshared() const;

 private:
  void reclaim(std::span<GuestPlant> guests);
  double shrink_caches(double bytes);
  double arc_least() const;
  void swap_guests_out(std::span<GuestPlant> guests, double bytes);
  void merge_pages(std::span<GuestPlant> guests, std::span<const Wants> wants);
  void feel_pressure(std::span<const GuestPlant> guests);
  int kill_when_out_of_memory(Time now, std::span<GuestPlant> guests);

  const HostSpec* spec_;
  double total_;
  HostMemory memory_;
  HostCounters counters_;
  HostWants wants_;
  KsmSpec ksm_;
  double room_ = 0;
  double swap_left_ = 0;
  double swap_cpu_ = 0;
  double merged_ = 0;
  double mergeable_unmerged_ = 0;
  double some_ = 0;  ///< PSI avg10, 0 to 1
  double full_ = 0;
  double own_missing_ = 0;
  Time short_since_{-1};
};

}  // namespace balloon::policy::sim
