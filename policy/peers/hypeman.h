// SPDX-License-Identifier: Apache-2.0
// kernel/hypeman's active ballooning: when the host runs low, guests give what is missing to the low
// watermark, in proportion to what each can give. It does not look at what guests use.
#pragma once

#include <optional>
#include <vector>

#include "policy/controller.h"
#include "policy/peers/roster.h"

namespace balloon::policy::peers {

/// Published constants of hypeman (lib/guestmemory/active_ballooning.go).
struct HypemanSettings {
  double pressure_high_watermark_available_percent = 10;  ///< of memory available: at most this is pressure
  double pressure_low_watermark_available_percent = 15;   ///< and at least this ends it
  double protected_floor_percent = 50;                    ///< of a guest's memory
  Bytes protected_floor_min_bytes = 512 * kMiB;
  Bytes min_adjustment_bytes = 64 * kMiB;
  Bytes per_vm_max_step_bytes = 256 * kMiB;
  std::chrono::seconds per_vm_cooldown{5};
};

class Hypeman final : public Controller {
 public:
  explicit Hypeman(const HypemanSettings& settings = {}) : settings_(settings) {}
  Plan decide(const Snapshot& snapshot) override;

 private:
  struct Track {
    std::optional<Time> applied_at;
  };
  struct Candidate {
    std::size_t guest = 0;
    Bytes assigned{};
    Bytes current{};
    Bytes floor{};
    Bytes planned{};
  };

  void gather(const Snapshot& snapshot);
  Bytes wanted(const HostSnapshot& host) const;
  void share(Bytes reclaim);
  Bytes step(const Candidate& candidate, Time now) const;

  HypemanSettings settings_;
  bool pressure_ = false;
  Roster<Track> tracks_;
  std::vector<Candidate> candidates_;
};

}  // namespace balloon::policy::peers
