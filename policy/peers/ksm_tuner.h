// SPDX-License-Identifier: Apache-2.0
// How MOM and ksmtuned run KSM: harder while the host is short of memory, not at all while there is plenty.
#pragma once

#include <chrono>
#include <cstdint>

#include "policy/types.h"

namespace balloon::policy::peers {

/// Published constants of MOM's doc/ksm.rules; ksmtuned has the same numbers beside a least threshold.
struct KsmSettings {
  double free_percent = 0.20;  ///< ksm_free_percent, KSM_THRES_COEF: below this share of memory it is short
  Bytes least_threshold{};     ///< KSM_THRES_CONST
  std::int64_t boost = 300;    ///< ksm_pages_boost, KSM_NPAGES_BOOST: pages more each time while short
  std::int64_t decay = -50;    ///< ksm_pages_decay, KSM_NPAGES_DECAY
  std::int64_t fewest = 64;    ///< ksm_npages_min, KSM_NPAGES_MIN
  std::int64_t most = 1250;    ///< ksm_npages_max, KSM_NPAGES_MAX
  /// ksm_sleep_ms_baseline, KSM_SLEEP_MSEC: for a host of 16 GiB; longer on smaller ones.
  std::chrono::milliseconds sleep{10};
  std::chrono::milliseconds shortest_sleep{0};
};

/// `free`: of the host, as the law sees it. Requires host.ksm.
KsmPlan tune_ksm(const KsmSettings& settings, const Snapshot& snapshot, double free);

}  // namespace balloon::policy::peers
