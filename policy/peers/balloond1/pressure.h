// SPDX-License-Identifier: Apache-2.0
// How much a guest hurts, by whatever signals it and the host have of it.
#pragma once

#include <optional>

#include "policy/peers/balloond1/rate.h"
#include "policy/peers/balloond1/trust.h"
#include "policy/peers/balloond1/tunables.h"
#include "policy/types.h"

namespace balloon::policy::peers::balloond1 {

/// What its counters say of one guest since the sample before.
struct Reading {
  Pressure level = Pressure::none;
  Signal signal = Signal::none;
  double elapsed = 0;     ///< seconds since the sample before; 0: nothing new
  double swapped_in = 0;  ///< bytes since then, of its own swap
  double swapped_out = 0;
  bool lacks_cache = false;  ///< reads back page cache that it had
  double cache_missed = 0;   ///< how much of it since then, about; bytes
};

class PressureGauge {
 public:
  /// Reads the newest sample; between samples the reading before it stands. `source` says whether the guest's
  /// own statistics count or only what the host sees.
  const Reading& read(const GuestSnapshot& guest, const Judgement& judged, Source source, Time now,
                      const Tunables& tunables);

  /// For how long its own counters have shown no sign of want, as far as they would.
  std::chrono::nanoseconds quiet_for(Time now) const;

 private:
  void read_guest(const GuestSnapshot& guest, const Tunables& tunables);
  void read_host(const GuestOnHost& host, Time now, const Tunables& tunables);

  Reading reading_;
  std::optional<Time> sampled_at_;
  Counter swap_in_, swap_out_, major_faults_, oom_kills_, alloc_stalls_, direct_scans_;
  Signal guest_signal_ = Signal::none;  ///< by the counters of its newest sample
  bool lacks_cache_ = false;
  double cache_missed_ = 0;
  Bytes sampled_size_{};  ///< its size in that sample
  std::optional<Time> oom_at_;
  std::optional<Time> hurt_at_;  ///< the last sign of want, or the first sample

  std::optional<Time> host_at_;
  Counter host_swap_in_, host_refaults_;
};

}  // namespace balloon::policy::peers::balloond1
