// SPDX-License-Identifier: Apache-2.0
// What the kernel says about the memory of the host: /proc/meminfo, /proc/vmstat, /proc/pressure/memory, the
// cache of ZFS, and KSM.
#pragma once

#include <string>

#include "balloond/host/ksm_sampler.h"
#include "balloond/host/pseudo_file.h"
#include "base/error.h"
#include "policy/types.h"

namespace balloon::daemon {

struct HostSample {
  policy::HostSnapshot memory;
  std::uint64_t pressure_some_micros = 0;  ///< PSI memory totals since boot
  std::uint64_t pressure_full_micros = 0;
  bool has_pressure = false;  ///< the kernel has PSI, and it is on
  KsmFigures ksm;             ///< what memory.ksm does not have; of a host with KSM
};

class HostSampler {
 public:
  /// `root` goes before /proc and /sys: empty but for tests.
  explicit HostSampler(const std::string& root = "");
  /// Fails when /proc/meminfo or /proc/vmstat cannot be read; PSI, ZFS and KSM may be absent.
  Result<HostSample> sample();

 private:
  PseudoFile meminfo_;
  PseudoFile vmstat_;
  PseudoFile pressure_;
  std::string arcstats_;  ///< a path: ZFS may be loaded, and unloaded, at any time
  KsmSampler ksm_;
  ReadBuffer buffer_{};
};

}  // namespace balloon::daemon
