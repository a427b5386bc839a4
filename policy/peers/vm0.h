// SPDX-License-Identifier: Apache-2.0
// vm0's controller of a single Firecracker sandbox: two thresholds on the guest's own free and available
// memory. It does not look at the host.
#pragma once

#include "policy/controller.h"

namespace balloon::policy::peers {

/// Published constants of vm0 (sandbox-firecracker/balloon.rs).
struct Vm0Settings {
  Bytes inflate_above = 384 * kMiB;  ///< MemFree from which on the guest gives some
  Bytes keep_free = 256 * kMiB;      ///< of it
  Bytes step = 256 * kMiB;           ///< at most this each time
  Bytes deflate_below = 192 * kMiB;  ///< MemAvailable under which the guest gets everything back
  Bytes least = 1024 * kMiB;         ///< no guest is made smaller
};

class Vm0 final : public Controller {
 public:
  explicit Vm0(const Vm0Settings& settings = {}) : settings_(settings) {}
  Plan decide(const Snapshot& snapshot) override;

 private:
  void balance(const GuestSnapshot& guest, GuestPlan& plan) const;

  Vm0Settings settings_;
};

}  // namespace balloon::policy::peers
