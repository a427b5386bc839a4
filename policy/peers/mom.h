// SPDX-License-Identifier: Apache-2.0
// oVirt's Memory Overcommitment Manager: every guest shrinks a little while the host is short of memory, and
// grows a little while it is not.
#pragma once

#include <deque>

#include "policy/controller.h"
#include "policy/peers/ksm_tuner.h"
#include "policy/peers/roster.h"

namespace balloon::policy::peers {

/// Published constants of MOM (doc/balloon.rules, doc/mom-balloon+ksm.conf), under their names there.
struct MomSettings {
  double pressure_threshold = 0.20;
  double pressure_critical = 0.05;
  double min_guest_free_percent = 0.20;
  double max_balloon_change_percent = 0.05;
  double min_balloon_change_percent = 0.0025;
  std::size_t sample_history_length = 10;
  /// policy-engine-interval over guest-monitor-interval: 10 s over 5 s. decide() is called at the latter.
  unsigned samples_per_decision = 2;
  /// Whether a guest that may grow is to have min_guest_free_percent free, or that scaled by the host's
  /// pressure.
  bool scale_free_when_growing = false;
  KsmSettings ksm{};
};

/// As vdsm ships it (static/etc/vdsm/mom.conf and mom.d), with ballooning enabled.
MomSettings vdsm_settings();

class Mom final : public Controller {
 public:
  explicit Mom(const MomSettings& settings = {}) : settings_(settings) {}
  Plan decide(const Snapshot& snapshot) override;

 private:
  struct Sample {
    double size = 0;
    double free = 0;
  };
  struct History {
    std::deque<Sample> samples;
    bool complete = false;  ///< the last sample had all statistics
  };

  void collect(const Snapshot& snapshot);
  void balance(const GuestSnapshot& guest, const History& history, double host_free, GuestPlan& plan) const;

  MomSettings settings_;
  Roster<History> histories_;
  std::deque<double> host_free_;  ///< bytes
  unsigned samples_ = 0;          ///< since the last decision
};

}  // namespace balloon::policy::peers
