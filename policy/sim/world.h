// SPDX-License-Identifier: Apache-2.0
// The whole simulated plant: one host and its guests over time, as a daemon sees and moves them.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "policy/sim/guest_plant.h"
#include "policy/sim/host_plant.h"
#include "policy/sim/scenario.h"
#include "policy/sim/signal.h"
#include "policy/sim/stats_channel.h"
#include "policy/urgency.h"

namespace balloon::policy::sim {

/// One guest's signals.
struct GuestSignals {
  Signal anon;
  Signal hot;
  Signal cold;
  Signal kernel;
  Signal mergeable;
  Signal busy;
  Signal stream;
  Signal arc;

  GuestSignals(const GuestSpec& spec, std::uint64_t seed, Time duration);
  Wants at(Time now);
};

struct HostSignals {
  Signal own;
  Signal cache;
  Signal arc;

  HostSignals(const HostSpec& spec, std::uint64_t seed, Time duration);
  HostWants at(Time now);
};

/// The seeds of a run's signals: the world's, and whoever wants to know its future.
std::uint64_t guest_seed(std::uint64_t seed, std::size_t guest);
std::uint64_t host_seed(std::uint64_t seed);

/// What became of one request for memory.
struct ReservationOutcome {
  std::size_t guest = 0;  ///< index into the scenario's guests
  GrantState state = GrantState::pending;
  Bytes granted{};
  Time asked_at{};
  Time decided_at{};
  Time starts_at{};
  bool started = false;
  bool false_accept = false;      ///< granted, but not there
  double missing_at_request = 0;  ///< bytes that had to be freed for it
};

/// The scenario must outlive it.
class World {
 public:
  World(const Scenario& scenario, std::uint64_t seed);

  Time now() const { return now_; }
  bool done() const { return now_ >= scenario_->duration; }
  /// One step of kStep.
  void step();

  /// What a daemon would see now. Reuses what `snapshot` holds.
  void snapshot(Snapshot& snapshot) const;
  /// Whether a daemon that saw `seen` last should not wait for its period: a guest came or went, a new sample
  /// shows a guest in need by `rule`, or a balloon moved while others wait for its memory.
  bool urgent(const Snapshot& seen, bool grows_wait, UrgencyRule& rule) const;
  /// Sets a balloon's target; `guest` is an index into the last snapshot's guests. Returns whether it
  /// changed.
  bool command(std::size_t guest, Bytes target);
  /// Takes note of what a plan says of reservations, and sets KSM.
  void apply(const Plan& plan);
  /// A daemon that went away came back: it has seen no statistics yet.
  void forget_statistics();
  bool daemon_up() const;

  const Scenario& scenario() const { return *scenario_; }
  std::span<const GuestPlant> guests() const { return guests_; }
  std::span<const Wants> wants() const { return wants_; }
  std::span<const Bytes> targets() const { return targets_; }
  std::span<const GuestLimits> limits() const { return limits_; }
  std::span<const ReservationOutcome> reservations() const { return reservations_; }
  const HostPlant& host() const { return host_; }
  /// Index into the scenario's guests of the last snapshot's guest `seen`.
  std::size_t guest_at(std::size_t seen) const { return seen_[seen]; }
  /// Whether it should run now: it was started, or killed and not yet started again.
  bool expected(std::size_t guest) const { return expected_[guest] != 0; }

 private:
  void settle_host();
  void come_and_go();
  void start_guest(std::size_t guest, std::optional<Bytes> size);
  void handle_events();
  void step_guests();
  double cpu_for_each() const;
  bool controllable(std::size_t guest) const;
  void follow_links();
  bool really_free(const ReservationOutcome& outcome) const;

  const Scenario* scenario_;
  Time now_{};
  HostPlant host_;
  std::vector<GuestPlant> guests_;
  std::vector<GuestSignals> signals_;
  HostSignals host_signals_;
  std::vector<StatsChannel> channels_;
  std::vector<Wants> wants_;
  std::vector<Bytes> targets_;
  std::vector<GuestLimits> limits_;
  std::vector<char> expected_;
  std::vector<Time> boots_;       ///< when the guest was switched on
  std::vector<Time> restart_at_;  ///< of guests that the host killed; negative: none
  std::vector<char> hang_;
  std::vector<char> silent_;
  std::vector<Lie> lie_;
  std::vector<char> held_back_;  ///< a command waits for the backend
  std::vector<char> unlinked_;   ///< by an event: its VMM has no connection to the daemon
  std::vector<Bytes> known_;     ///< its size, as the daemon last heard of it
  std::vector<double> stalled_;  ///< PSI avg10 of its cgroup, 0 to 1
  std::vector<ReservationOutcome> reservations_;
  bool misbehaving_ = false;  ///< the scenario has events at all
  mutable std::vector<std::size_t> seen_;
  mutable std::vector<std::size_t> seen_reservations_;
};

}  // namespace balloon::policy::sim
