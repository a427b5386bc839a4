// SPDX-License-Identifier: Apache-2.0
// One round of control: sample, decide, move, publish. No thread and no waiting: ControlLoop calls it, and so
// do tests.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "balloond/control/control_switch.h"
#include "balloond/control/counters.h"
#include "balloond/control/shadow_policy.h"
#include "balloond/control/state.h"
#include "balloond/host/ksm_control.h"
#include "balloond/journal/journal.h"
#include "policy/engine.h"
#include "policy/executor.h"
#include "policy/rules/resolver.h"

namespace balloon::daemon {

class Ticker {
 public:
  /// `journal`: where decisions are recorded; `reservations`: what is to be reserved; `ksm`: how the host's
  /// KSM is run, where policy says so; `control`: whether decisions are applied. Each may be null.
  Ticker(const Clock& clock, Registry& guests, HostSampler& host, StateStore& states,
         const policy::rules::PolicyFile& policy, Journal* journal = nullptr,
         ReservationBook* reservations = nullptr, KsmControl* ksm = nullptr,
         ControlSwitch* control = nullptr);

  void tick();
  void set_policy(const policy::rules::PolicyFile& policy);
  /// Some guest would grow, or a reservation be granted, once memory is freed: the next freed memory is worth
  /// a tick.
  bool grows_wait() const { return grows_wait_; }
  const Counters& counters() const { return counters_; }
  const policy::rules::PolicyFile& policy() const { return resolver_.policy(); }

 private:
  struct LastMove {
    bool grown = false;
    Time at{};
  };

  /// KSM is the plan's to run where policy says so, the kernel lets us, and nobody unmerges.
  void claim_ksm(HostSample& host);
  /// Notes in `guests` whom policy leaves alone.
  policy::Snapshot snapshot(const policy::HostSnapshot& host, std::vector<GuestRecord>& guests,
                            WallTime wall);
  void move(const std::vector<policy::Move>& moves,
            std::vector<GuestRecord>& guests);  ///< notes new targets in `guests`
  void publish(const HostSample& host, std::vector<GuestRecord> guests, const policy::Snapshot& seen,
               const policy::Plan& plan, std::string not_applied);
  /// Shows a decision to whoever follows: the shadow policy and the journal.
  void show(const policy::Snapshot& seen, const std::vector<GuestRecord>& guests, WallTime wall,
            const policy::Plan& plan);
  /// Guests whose policy says so stay out of KSM, however their VMMs were started.
  void keep_from_merging(const policy::Snapshot& seen, const std::vector<GuestRecord>& guests);
  void note_change(const policy::Plan& plan);
  void note_move(const std::string& guest, bool grown);
  /// While the host is short of memory the next decision is made from what guests have then.
  void ask_for_fresh_stats();

  const Clock& clock_;
  Registry& guests_;
  HostSampler& host_;
  StateStore& states_;
  Journal* const journal_;
  ReservationBook* const reservations_;
  KsmControl* const ksm_;
  ControlSwitch* const control_;
  policy::rules::Resolver resolver_;
  policy::Engine engine_;
  std::optional<ShadowPolicy> shadow_;
  Counters counters_;
  std::map<std::string, LastMove> last_moves_;      ///< of guests that were moved within kReversalWindow
  std::map<std::string, std::uint64_t> reversals_;  ///< of guests that are there and have some
  std::uint64_t revision_ = 0;
  policy::HostState host_state_ = policy::HostState::unspecified;
  bool grows_wait_ = false;
};

}  // namespace balloon::daemon
