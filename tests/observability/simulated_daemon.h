// SPDX-License-Identifier: Apache-2.0
// balloond's own registry, control, reservations, journal and metrics around a simulated host (policy/sim),
// by a clock that runs as fast as it can: hours of what the daemon exports in seconds. Files of /proc and
// /sys are written from what the simulation says; guests' VMMs are played here.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "balloond/control/control_switch.h"
#include "balloond/control/tick.h"
#include "balloond/metrics/collector.h"
#include "policy/sim/world.h"
#include "tests/unit/balloond/fakes.h"

namespace balloon::test {

class SimulatedClock final : public daemon::Clock {
 public:
  explicit SimulatedClock(daemon::WallTime start) : start_(start) {}
  daemon::Time now() const override { return kBegin + ran_; }
  daemon::WallTime wall() const override {
    return start_ + std::chrono::duration_cast<daemon::WallTime::duration>(ran_);
  }
  void run_to(std::chrono::nanoseconds ran) { ran_ = ran; }

 private:
  /// The host has been up for a while.
  static constexpr std::chrono::nanoseconds kBegin = std::chrono::hours(1);
  daemon::WallTime start_;
  std::chrono::nanoseconds ran_{};
};

/// What goes wrong around the daemon, not in the simulated host: that says its scenario.
struct Trouble {
  std::chrono::nanoseconds lateness = std::chrono::microseconds(200);  ///< of each round of control
  bool stands_still = false;                                           ///< no round of control any more
  bool reload_refused = false;
  bool reservations_unwritable = false;
  bool control_paused = false;
  std::optional<std::int64_t> ksm_profit{};  ///< KSM runs, and the kernel says so of it
  std::string moved_by_another{};            ///< a guest whose balloon somebody else moves, each minute
  std::string pinned{};                      ///< a guest that an operator holds at its minimum
  std::string reserved{};                    ///< a scheduler asks for the host's whole memory by this name
};

class SimulatedDaemon {
 public:
  /// The scenario must outlive it. Without `journal_works` there is no place for the journal.
  SimulatedDaemon(const policy::sim::Scenario& scenario, std::uint64_t seed, daemon::WallTime start,
                  bool journal_works);

  bool done() const { return world_.done(); }
  std::chrono::nanoseconds ran() const { return world_.now(); }
  /// To the next second: what guests do in it, and one round of control.
  void run_a_second();
  void strike(const Trouble& trouble);
  std::string page() const { return collector_.page(); }

 private:
  struct Vmm {
    daemon::Session session = 0;
    int pid = 0;
    std::shared_ptr<daemon::test::FakeChannel> channel = std::make_shared<daemon::test::FakeChannel>();
    std::size_t answered = 0;
    daemon::Time newest{};  ///< sample that was passed on
    daemon::BalloonState balloon{};
    daemon::BalloonCounters counters{};
    bool seen = false;
  };

  const daemon::Counters& begin();
  void write_host();
  void write_ksm();
  void look_at_guests();
  void join(const policy::GuestSnapshot& guest, std::size_t in_world);
  void report(Vmm& vmm, const policy::GuestSnapshot& guest, std::size_t in_world);
  void reserve_for_those_to_come();
  void be_called();
  void obey();
  void meddle();

  const policy::sim::Scenario& scenario_;
  daemon::test::FakeTree tree_;
  SimulatedClock clock_;
  policy::sim::World world_;
  policy::Snapshot now_;
  Trouble trouble_;
  double some_micros_ = 0;
  double full_micros_ = 0;
  int next_pid_ = 1000;
  std::map<std::string, Vmm> vmms_;

  daemon::StateStore states_;
  daemon::Registry guests_;
  std::optional<daemon::HostSampler> host_;
  daemon::Journal journal_;
  daemon::ReservationBook reservations_;
  daemon::ControlSwitch control_;
  std::optional<daemon::Ticker> ticker_;
  daemon::NeedHistory needs_{clock_};
  daemon::NeedKeeper need_keeper_{clock_, needs_, ""};
  daemon::CallCounters calls_;
  std::array<daemon::BackendHealth, daemon::kBackends.size()> backends_;
  daemon::Collector collector_;
};

}  // namespace balloon::test
