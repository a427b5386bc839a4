// SPDX-License-Identifier: Apache-2.0
// What a run is judged by. Every score is a number of one run over the scenario's judged time; kScores says
// for each what it means and which way is better.
#pragma once

#include <array>
#include <string_view>
#include <vector>

#include "policy/sim/world.h"
#include "policy/water_filling.h"

namespace balloon::policy::sim {

struct Scores {
  double deficit = 0;
  double t95_p50 = 0;
  double t95_p99 = 0;
  double t95_max = 0;
  double rises = 0;
  double unsatisfied = 0;
  double major_faults = 0;
  double refaults = 0;
  double guest_swap_in = 0;
  double guest_swap_out = 0;
  double stall = 0;
  double host_swap_in = 0;
  double host_swap_out = 0;
  double psi_some = 0;
  double psi_full = 0;
  double oom_guest = 0;
  double oom_host = 0;
  double jain = 1;
  double satisfaction_min = 1;
  double min_violations = 0;
  double resizes = 0;
  double reversals = 0;
  double moved = 0;
  double reclaimed = 0;
  double reservations = 0;
  double granted = 0;
  double false_accepts = 0;
  double grant_p50 = 0;
  double grant_p99 = 0;
  double grant_excess = 0;
  double cost = 0;
};

/// How one guest fared.
struct GuestScores {
  double deficit = 0;       ///< GiB·s
  double satisfaction = 1;  ///< mean over the time that it should have run
};

enum class Better : std::uint8_t { lower, higher, neither };

struct ScoreInfo {
  std::string_view name;
  std::string_view unit;
  Better better = Better::lower;
  double Scores::* value = nullptr;
  std::string_view definition;
};

inline constexpr std::array kScores = {
    ScoreInfo{
        "deficit", "GiB·s", Better::lower, &Scores::deficit,
        "integral over time of what guests' programs use and do not have resident: working anonymous, hot "
        "file and kernel memory (and cold files where the scenario says so), in guest or host swap included"},
    ScoreInfo{"t95_p50", "s", Better::lower, &Scores::t95_p50,
              "of a rise in demand (by 64 MiB and 5 % of the guest's memory within 10 s): time short of it "
              "by 5 % or "
              "more, until satisfied or given up; median over rises"},
    ScoreInfo{"t95_p99", "s", Better::lower, &Scores::t95_p99, "the same, 99th percentile"},
    ScoreInfo{"t95_max", "s", Better::lower, &Scores::t95_max, "the same, longest"},
    ScoreInfo{"rises", "", Better::neither, &Scores::rises, "rises in demand"},
    ScoreInfo{"unsatisfied", "", Better::lower, &Scores::unsatisfied,
              "rises that were never satisfied: demand fell again, or the judged time ended, before"},
    ScoreInfo{"major_faults", "", Better::lower, &Scores::major_faults,
              "guests' page faults that had to read from swap or disk"},
    ScoreInfo{"refaults", "GiB", Better::lower, &Scores::refaults,
              "hot file pages that were evicted and read again"},
    ScoreInfo{"guest_swap_in", "GiB", Better::lower, &Scores::guest_swap_in,
              "read back from guests' own swap"},
    ScoreInfo{"guest_swap_out", "GiB", Better::lower, &Scores::guest_swap_out, "written to guests' own swap"},
    ScoreInfo{
        "stall", "s", Better::lower, &Scores::stall,
        "Σ over guests of time that programs stood still for memory: for the guest's own swap and disk, or "
        "for the host and its swap"},
    ScoreInfo{"host_swap_in", "GiB", Better::lower, &Scores::host_swap_in, "read back from the host's swap"},
    ScoreInfo{"host_swap_out", "GiB", Better::lower, &Scores::host_swap_out, "written to the host's swap"},
    ScoreInfo{"psi_some", "s", Better::lower, &Scores::psi_some,
              "time in which something on the host stood still for the host's memory"},
    ScoreInfo{"psi_full", "s", Better::lower, &Scores::psi_full, "time in which everything on the host did"},
    ScoreInfo{"oom_guest", "", Better::lower, &Scores::oom_guest, "programs killed by guests' kernels"},
    ScoreInfo{"oom_host", "", Better::lower, &Scores::oom_host, "guests killed by the host's kernel"},
    ScoreInfo{
        "jain", "", Better::higher, &Scores::jain,
        "Jain's index of guests' mean satisfaction; satisfaction is what a guest has of its demand, over the "
        "weighted water-filling share of the host that it is entitled to, at most 1"},
    ScoreInfo{"satisfaction_min", "", Better::higher, &Scores::satisfaction_min,
              "mean satisfaction of the worst-off guest"},
    ScoreInfo{"min_violations", "s", Better::lower, &Scores::min_violations,
              "Σ over guests of time with a target below their guaranteed minimum"},
    ScoreInfo{"resizes", "", Better::lower, &Scores::resizes, "targets set"},
    ScoreInfo{"reversals", "", Better::lower, &Scores::reversals,
              "targets set in the other direction than the guest's last"},
    ScoreInfo{"moved", "GiB", Better::lower, &Scores::moved, "moved by balloons, either way"},
    ScoreInfo{"reclaimed", "GiB", Better::higher, &Scores::reclaimed, "mean of what balloons hold"},
    ScoreInfo{"reservations", "", Better::neither, &Scores::reservations, "reservations asked for"},
    ScoreInfo{"granted", "", Better::higher, &Scores::granted, "of these, granted by their deadline"},
    ScoreInfo{"false_accepts", "", Better::lower, &Scores::false_accepts,
              "granted when the host had less available than this and earlier grants come to whose guests "
              "were not up yet"},
    ScoreInfo{"grant_p50", "s", Better::lower, &Scores::grant_p50, "from request to grant, median"},
    ScoreInfo{"grant_p99", "s", Better::lower, &Scores::grant_p99, "from request to grant, 99th percentile"},
    ScoreInfo{"grant_excess", "s", Better::lower, &Scores::grant_excess,
              "the most by which a true grant took longer than 1.5 times what one balloon over page cache "
              "(0.95 GiB/s) "
              "and one statistics period of 1 s need for what was missing"},
    ScoreInfo{"cost", "s", Better::lower, &Scores::cost,
              "one figure: deficit (1 s a GiB·s) + stall + 30 s for each program that a guest killed + 300 s "
              "for each guest that "
              "the host killed"},
};

/// Seconds that an OOM kill costs, in Scores::cost: a program started again; a guest booted and its work
/// lost.
inline constexpr double kCostOfGuestOom = 30;
inline constexpr double kCostOfHostOom = 300;
/// The formula of Scores::cost. It is frozen: what laws are compared by does not change with them.
double cost_of(const Scores& scores);

/// Jain's index of fairness: 1 when all are equal, 1/n when one has everything.
double jain_index(const std::vector<double>& values);
/// Of unsorted values, nearest rank; 0 when there are none.
double percentile(std::vector<double> values, double part);

/// Finds the rises in one guest's demand, and how long it was short after each.
class RiseWatch {
 public:
  explicit RiseWatch(double memory);
  /// One step.
  void step(double demand, double deficit);
  /// Once a second, after the step.
  void second(double demand, bool judged);
  /// The judged time is over.
  void end();
  const std::vector<double>& times() const { return times_; }
  double unsatisfied() const { return unsatisfied_; }

 private:
  static constexpr std::size_t kTrail = 10;  // seconds
  void close(bool satisfied);

  double threshold_;
  std::array<double, kTrail> trail_{};
  std::size_t seconds_ = 0;
  double last_ = 0;
  double short_run_ = 0;
  bool short_now_ = false;
  bool was_short_ = false;  ///< at the last second
  bool open_ = false;
  double base_ = 0;
  double peak_ = 0;
  double short_time_ = 0;
  std::vector<double> times_;
  double unsatisfied_ = 0;
};

class ScoreKeeper {
 public:
  explicit ScoreKeeper(const World& world);
  /// After each step of the world.
  void step(const World& world);
  /// A guest's target was changed.
  void resized(const World& world, std::size_t guest, Bytes from, Bytes to);
  Scores finish(const World& world);
  /// After finish(): by guest of the scenario.
  std::vector<GuestScores> guests() const;

 private:
  struct Guest {
    RiseWatch rises;
    GuestCounters counted;
    int direction = 0;
    double deficit = 0;
    double satisfaction = 0;
    double seconds = 0;
  };
  bool judged(const World& world);
  void second(const World& world, bool count);
  void satisfy(const World& world);
  void reservations(const World& world);

  std::vector<Guest> guests_;
  std::vector<double> demands_;
  std::vector<double> deficits_;
  std::vector<Claim> claims_;
  std::vector<Bytes> shares_;
  FillSpace space_;
  HostCounters host_counted_;
  std::size_t window_ = 0;
  bool was_judged_ = false;
  std::int64_t steps_ = 0;
  double judged_seconds_ = 0;
  Scores scores_;
};

}  // namespace balloon::policy::sim
