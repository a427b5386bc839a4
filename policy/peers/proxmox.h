// SPDX-License-Identifier: Apache-2.0
// Proxmox VE's pvestatd: guests share by shares what the host uses up to a fixed percentage.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "policy/controller.h"
#include "policy/peers/ksm_tuner.h"
#include "policy/peers/roster.h"

namespace balloon::policy::peers {

/// Published constants of Proxmox VE (PVE/Service/pvestatd.pm, PVE/AutoBalloon.pm).
struct ProxmoxSettings {
  double ballooning_target = 0.80;  ///< of the host's memory in use; a node option
  Bytes maxchange = 100 * kMiB;     ///< of a guest each time
  Bytes ignored = 10 * kMiB;        ///< a host this near its target is left alone
  double roomy = 0.25;              ///< free memory, as a share of its minimum, of a guest that has enough
  std::uint32_t shares_per_weight = 10;  ///< its default share of 1000 is our default weight of 100
  /// ksmtuned runs beside it, with KSM_MONITOR_INTERVAL and KSM_THRES_CONST.
  std::chrono::seconds ksm_interval{60};
  KsmSettings ksm{.least_threshold = 2048 * kMiB, .shortest_sleep = std::chrono::milliseconds(10)};
};

class Proxmox final : public Controller {
 public:
  explicit Proxmox(const ProxmoxSettings& settings = {}) : settings_(settings) {}
  Plan decide(const Snapshot& snapshot) override;

 private:
  struct Seen {
    bool controllable = false;
  };
  /// A guest that takes part. In bytes.
  struct Vm {
    std::size_t guest = 0;
    double balloon = 0;
    double balloon_min = 0;
    double maxmem = 0;
    double shares = 0;
    bool roomy = false;
    double next = 0;
    bool settled = false;
  };
  enum class Of : std::uint8_t { all, pressed, roomy };

  void gather(const Snapshot& snapshot);
  void share(double goal);
  double change(Of which, double bytes);
  double round(Of which, double bytes, double rest, bool& repeat, bool& progress);
  void start_at_minimum(const Snapshot& snapshot, Plan& plan);

  ProxmoxSettings settings_;
  bool first_ = true;
  Roster<Seen> seen_;
  std::vector<Vm> vms_;
  std::optional<Time> ksm_at_;
};

}  // namespace balloon::policy::peers
