// SPDX-License-Identifier: Apache-2.0
// How balloond sees a guest: which of its statistics it acts on, and what it takes one without any for. The
// same rules as in balloond/guests/sanitize.cc, balloond/guests/registry.cc and balloond/control/tick.cc,
// which policy must not include.
#pragma once

#include <optional>

#include "policy/types.h"

namespace balloon::policy::sim {

/// Whether balloond acts on a sample: no size is above what it is a part of. A counter that went back and
/// values that are 2^64-1 are not known, and are dropped. `previous` is the sample before, of the same boot,
/// whether it was acted on or not.
bool is_usable(GuestStats& sample, const std::optional<GuestStats>& previous, Bytes memory);

/// One guest's part of balloond's registry.
class Registered {
 public:
  /// Its VMM connects, or does again: nothing is known of it.
  void join(Time now);
  /// Its VMM's connection is lost, and its process lives.
  void lose() { connected_ = false; }
  /// Its balloon driver came up, or is down since the guest reboots. Call it at each step.
  void driver(Time now, bool up);
  void take(GuestStats sample, Bytes memory);
  bool connected() const { return connected_; }
  /// What it may act on, if anything.
  const std::optional<GuestStats>& usable() const { return usable_; }
  /// What of it comes before the law. A guest that has left, talks nonsense, or whose driver has been up for
  /// longer than `stale_after` without a word has statistics that are as old as can be; before that, one
  /// without statistics is taken for one that boots.
  std::optional<GuestStats> seen(Time now, Bytes actual, Time stale_after) const;

 private:
  std::optional<GuestStats> usable_;
  std::optional<GuestStats> previous_;
  Time ready_since_{};
  bool up_ = false;
  bool connected_ = true;
  bool complaint_ = false;
};

}  // namespace balloon::policy::sim
