// SPDX-License-Identifier: Apache-2.0
// What the plant charges and hides beyond its first version: each effect with its default, unit and source.
// With all of them off it is the plant of generator 1.
#pragma once

#include <chrono>
#include <cstdint>

#include "policy/types.h"

namespace balloon::policy::sim {

/// Of one guest.
struct GuestEffects {
  /// Ratio of its files in use that are mapped. Only these raise major faults when they are read from disk
  /// again: read(2) raises none (mm/filemap.c counts PGMAJFAULT in filemap_fault alone; measured:
  /// tests/calibration/linux-facts.json, reread). A tenth is a guess at programs and libraries beside data.
  double mapped = 0.1;
  /// Each cold page is asked for once in this time; those that were evicted since are read from disk. 0:
  /// never. A guess: nightly jobs, logins, and files that are served now and then.
  Time reread = std::chrono::minutes(10);
  /// Standard deviation of what statistics say is free and available, as a ratio of boot memory: while its
  /// programs rest (a slow drift), and while they allocate or read (from one sample to the next). Measured:
  /// linux-facts.json, noise.
  double noise_rest = 0.00014;
  double noise_load = 0.0022;
  /// A kernel that knew nothing would evict hot and cold pages as they come; this one does so as often, and
  /// evicts cold ones else. Measured, for classic LRU: linux-facts.json, lru.
  double lru_error = 0.2;
  /// Part of what the balloon gives back that is mapped by small pages on the host from then on: all with
  /// QEMU, nothing with balloon-vmm, which joins them (linux-facts.json, huge_pages).
  double split = 1;
  /// Part of its time that a guest loses when all of its memory is mapped by small pages. Large pages in the
  /// hypervisor win 3 to 22 % (Bhargava et al., "Accelerating Two-Dimensional Page Walks for Virtualized
  /// Systems", ASPLOS '08).
  double split_cost = 0.03;

  static GuestEffects off() { return {1, Time{}, 0, 0, 0, 0, 0}; }
};

/// Of the host, and of what a daemon sees there.
struct HostEffects {
  /// Devices cost what data sheets say (devices.h); false: the round numbers of generator 1, no limit to
  /// requests a second, zram for nothing.
  bool device_costs = true;
  /// An ARC shrinks by OpenZFS' rule, and not below its minimum; false: by 100 MiB/s, down to nothing.
  bool arc_rule = true;
  /// Statistics are judged, and guests' states are seen, as by balloond; false: laws get them as guests send
  /// them.
  bool as_balloond = true;

  static HostEffects off() { return {false, false, false}; }
};

struct Effects {
  GuestEffects guest;
  HostEffects host;

  static Effects off() { return {GuestEffects::off(), HostEffects::off()}; }
};

}  // namespace balloon::policy::sim
