// SPDX-License-Identifier: Apache-2.0
// The arithmetic of qmemman: what guests should have, and what donors are asked for. Pure.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "policy/types.h"

namespace balloon::policy::peers {

/// Published constants of qmemman (qubes-core-admin: qubes/qmemman, qubes-linux-utils: qmemman), under their
/// names there. In bytes and seconds.
struct QmemmanSettings {
  double cache_factor = 1.3;                  ///< cache-margin-factor
  double min_prefmem = 200.0 * (1 << 20);     ///< vm-min-mem
  double dom0_mem_boost = 350.0 * (1 << 20);  ///< dom0-mem-boost: left to the host beside what it uses
  double req_safety_net_factor = 1.05;
  double xen_free_mem_left = 50.0 * (1 << 20);
  double xen_free_mem_min = 25.0 * (1 << 20);
  double balloon_delay = 0.1;  ///< between iterations: decide() is called at this period
  double check_period_s = 3;
  double check_mb_s = 100.0 * (1 << 20);
  double min_total_memory_transfer = 150.0 * (1 << 20);
  double min_mem_change_when_under_pref = 15.0 * (1 << 20);
  double least_donation = 10.0 * (1 << 20);
  int tries = 5;                                      ///< waits before a grant
  double used_mem_change_threshold = 30000.0 * 1024;  ///< meminfo-writer writes only greater changes
  /// Ours: what donors were asked for counts as there when memory is low, so that acceptors get theirs in the
  /// same balance (after waiting for it). The published code subtracts it and leaves acceptors to the next.
  bool credit_donations = true;
  /// Ours: iterations without movement after which a donor has no_progress. Published: 1; but a command takes
  /// a while to arrive.
  int patience = 3;
  /// Ours: a guest that does not come nearer to the size that it should start at for this long counts as it
  /// is.
  double start_patience_s = 1;
  /// Ours: guests' used swap is estimated from their swap traffic, and forgotten by half in this time.
  double swapped_half_life = 120;
};

struct QmemmanDomain {
  std::optional<double> mem_used;  ///< with swap, without caches
  double mem_current = 0;
  double mem_actual = 0;  ///< what it has or may take: the larger of current and last target
  double mem_max = 0;
  double min_prefmem = 0;
  double last_target = 0;
  bool no_progress = false;
  bool slow_memset_react = false;
};

struct QmemmanRequest {
  std::size_t guest = 0;
  double target = 0;
};

/// Requires that the domain's mem_used is known.
double pref_mem(const QmemmanSettings& settings, const QmemmanDomain& domain);

/// Targets that share `free` (less what must stay free) among all: donors first.
std::vector<QmemmanRequest> balance(const QmemmanSettings& settings, double free,
                                    std::span<QmemmanDomain* const> domains);

/// Targets for donors that bring `size`; none when they cannot.
std::vector<QmemmanRequest> balloon_down(const QmemmanSettings& settings, double size,
                                         std::span<QmemmanDomain* const> domains);

}  // namespace balloon::policy::peers
