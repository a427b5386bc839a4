// SPDX-License-Identifier: Apache-2.0
// VMware ESX Server's allocation (Waldspurger, "Memory Resource Management in VMware ESX Server", OSDI '02):
// memory by shares, with a tax on what is idle.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "policy/controller.h"
#include "policy/peers/roster.h"

namespace balloon::policy::peers {

/// Constants of the paper and of the product's advanced options (Mem.*), under their names there.
struct EsxSettings {
  double idle_tax = 0.75;       ///< Mem.IdleTax: an idle page costs 1/(1 - 0.75) = 4 times one in use
  double ctl_max_percent = 65;  ///< Mem.CtlMaxPercent: of a guest's memory, the most that a balloon takes
  double high = 0.06;           ///< of the host's memory, what should be free: allocations aim at that
  double soft = 0.04;           ///< with less than this free, balloons inflate
  std::chrono::nanoseconds balance_period = std::chrono::seconds(15);  ///< Mem.BalancePeriod
  std::chrono::nanoseconds sample_period = std::chrono::seconds(30);   ///< Mem.SamplePeriod of the paper
  std::uint64_t share_scan_total = 200;  ///< Mem.ShareScanTotal: pages a second looked at for sharing
  /// Ours, since they are not published: the gains of the two moving averages, by sample period...
  double fast_gain = 0.5;
  double slow_gain = 0.125;
  /// ...and by how much free memory must exceed `high` for that to be "significantly".
  double leave = 0.01;
};

class Esx final : public Controller {
 public:
  explicit Esx(const EsxSettings& settings = {}) : settings_(settings) {}
  Plan decide(const Snapshot& snapshot) override;

 private:
  /// What a guest uses, in bytes, as sampled.
  struct Track {
    Time began{};  ///< of the sample period
    double sum = 0;
    double count = 0;
    std::optional<double> fast{};
    double slow = 0;
    double active = 0;
  };
  struct Client {
    std::size_t guest = 0;
    double shares = 0;
    double active = 0;
    double low = 0;
    double high = 0;
  };

  void sample(const GuestSnapshot& guest, Time now, Track& track) const;
  bool watch_free(const HostSnapshot& host);
  void allocate(const Snapshot& snapshot, Plan& plan);
  double allocation(const Client& client, double price) const;
  void admit(const Snapshot& snapshot, Plan& plan);

  EsxSettings settings_;
  Roster<Track> tracks_;
  std::vector<Client> clients_;
  std::vector<std::string> granted_;
  std::optional<Time> balanced_at_;
  bool reclaiming_ = false;
};

}  // namespace balloon::policy::peers
