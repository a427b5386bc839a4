// SPDX-License-Identifier: Apache-2.0
// Runs the host's KSM as a plan says, by writing to /sys/kernel/mm/ksm. Never unmerges, and leaves everything
// as it is when it ends, and while a known manager of KSM (ksmtuned, MOM) runs.
#pragma once

#include <optional>
#include <string>

#include "base/error.h"
#include "base/other_controllers.h"
#include "policy/types.h"

namespace balloon::daemon {

class KsmControl {
 public:
  /// `root` goes before /sys: empty but for tests.
  explicit KsmControl(std::string root = "") : root_(std::move(root)) {}

  /// Writes what differs from `now`, as sampled since the last call. Waits for ksmd to end the round that it
  /// is in (mm/ksm.c: ksm_thread_mutex), and for nothing longer: not to be called while somebody unmerges.
  void apply(const policy::KsmPlan& plan, const policy::KsmSnapshot& now);
  /// To be asked on each tick: nothing has been refused, and no known manager of KSM runs, as far as was seen
  /// when it was last looked for. Says once what is in the way.
  bool works();
  /// Says once that there is nothing to control.
  void note_missing();
  /// There is a new policy: what was refused is tried again, and complaints are made again.
  void begin_anew();

 private:
  Result<void> write_changes(const policy::KsmPlan& plan, const policy::KsmSnapshot& now) const;
  Result<void> write(const char* file, std::uint64_t value) const;
  bool as_set(const policy::KsmSnapshot& now) const;
  void look_for_manager();
  void note_rival();

  const std::string root_;
  std::optional<policy::KsmPlan> set_;  ///< by the last call
  /// KSM is its business while it runs.
  std::optional<OtherController> manager_;
  unsigned ticks_until_look_ = 0;
  bool refused_ = false;
  bool rival_noted_ = false;
  bool missing_noted_ = false;
};

}  // namespace balloon::daemon
