// SPDX-License-Identifier: Apache-2.0
// xapi's squeezed: every guest is as far between its minimum and its maximum as all others, and what is asked
// of them does not depend on what they use. The only rival with reservations.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "policy/controller.h"
#include "policy/peers/roster.h"

namespace balloon::policy::peers {

/// squeezed counts in KiB.
using Kib = std::int64_t;
inline constexpr Kib kMib = 1024;  ///< of them

/// Published constants of squeezed (xen-api: ocaml/squeezed), under their names there.
struct SqueezedSettings {
  Kib low_mem_emergency_pool = 64 * kMib;
  Kib extra_mem_to_keep = 8 * kMib;
  Kib free_memory_tolerance = 512;
  Kib inaccuracy = 4;
  std::chrono::seconds balance_check_interval{10};
  std::chrono::seconds assume_balloon_driver_stuck_after{5};
  std::chrono::seconds uncooperative_after{20};
  /// Ours: in Xen the control domain has a fixed size; here the host's own use is followed in steps of this
  /// size, so that its small changes do not set every balloon moving.
  Kib own_use_step = 16 * kMib;
};

class Squeezed final : public Controller {
 public:
  explicit Squeezed(const SqueezedSettings& settings = {}) : settings_(settings) {}
  Plan decide(const Snapshot& snapshot) override;

 private:
  struct Domain {
    std::size_t guest = 0;
    bool can_balloon = false;
    Kib dynamic_min = 0;
    Kib dynamic_max = 0;
    Kib target = 0;
    Kib actual = 0;
    bool active = true;  ///< within the iteration
  };
  struct Track {
    // Of the run that is under way: every run takes all drivers for innocent at first.
    std::uint64_t run = 0;
    Kib last_actual = 0;
    Time progress_at{};
    bool stuck = false;
    bool declared_inactive = false;
    // Always:
    std::optional<Time> cooperative_at;
  };
  struct Grant {
    std::string id;
    GrantState state = GrantState::pending;
    Kib granted = 0;
  };
  /// One call of change_host_free_memory.
  struct Run {
    Kib required = 0;            ///< to be free on the host
    std::optional<Kib> least{};  ///< what is enough of it, for a reservation
    std::string reservation{};   ///< empty: the periodic balancing
    Kib min = 0;
    Kib max = 0;
  };
  enum class Outcome : std::uint8_t { adjust, success, failed };
  struct NewTarget {
    std::size_t domain = 0;
    Kib target = 0;
  };

  void observe(const Snapshot& snapshot);
  void update_cooperation(Time now, Plan& plan);
  void match_reservations(const Snapshot& snapshot);
  void start_run(const Snapshot& snapshot);
  void start_reservation(const Reservation& wanted, Grant& grant);
  bool unbalanced();
  void iterate(const Snapshot& snapshot, Plan& plan);
  void watch_progress(Time now);
  double gamma(Kib keep_free, Kib further_range) const;
  Outcome judge(const Run& run, std::vector<NewTarget>& targets) const;
  void finish(Outcome outcome, Time now);

  Kib host_target() const { return settings_.low_mem_emergency_pool + settings_.extra_mem_to_keep; }
  bool hit(const Domain& domain, Kib target) const;
  Grant* grant_of(const std::string& id);

  SqueezedSettings settings_;
  Roster<Track> tracks_;
  std::vector<Domain> domains_;
  std::vector<Grant> grants_;
  std::vector<NewTarget> targets_;
  std::optional<Kib> own_use_;
  Kib free_ = 0;  ///< what Xen calls free: on the host, in no guest, not reserved; may be negative
  std::optional<Time> next_check_;
  std::optional<Run> run_;
  std::uint64_t runs_ = 0;
};

}  // namespace balloon::policy::peers
