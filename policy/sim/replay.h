// SPDX-License-Identifier: Apache-2.0
// Decides a recording again: with the recorded tunables, to see that the plans are the same; or with others,
// to see what would have been different. Sizes are what they were: what another law would have brought about
// is for the simulator to say.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "policy/controller.h"
#include "policy/peers/laws.h"
#include "policy/sim/replay_files.h"

namespace balloon::policy::sim {

/// After decisions that are missing the recorded law knew more than the replayed one: differences count only
/// from here on. The longest that the engine is sure to remember by default: page cache that was in use,
/// holds.
inline constexpr std::chrono::nanoseconds kWarmUp = std::chrono::minutes(10);

/// What decides instead of the recorded law, when something does.
struct Alternate {
  std::string name;                    ///< for people; empty: the recorded law
  const peers::Law* law = nullptr;     ///< null: our engine
  std::optional<Tunables> tunables{};  ///< of our engine; unset: as recorded
  /// Puts its own limits and groups in place of the recorded ones.
  std::function<void(const recording::Tick&, Snapshot&)> regrant{};

  bool as_recorded() const { return law == nullptr && !tunables && !regrant; }
};

/// How one guest would have been treated otherwise.
struct GuestReplay {
  std::uint64_t ticks = 0;
  std::uint64_t targets = 0;  ///< ticks with another target
  std::uint64_t reasons = 0;  ///< with another reason
  std::uint64_t states = 0;
  double more = 0;  ///< bytes above the recorded targets, over all ticks
  double less = 0;  ///< and below
  Bytes largest{};  ///< difference
};

/// The first difference.
struct FirstDifference {
  std::uint64_t tick = 0;
  std::chrono::milliseconds wall{};
  std::string guest;  ///< empty: of the host
  std::string what;   ///< in words
  GuestPlan recorded;
  GuestPlan replayed;
};

/// What the host itself takes beyond the reserve, guests have to have given back after this.
inline constexpr std::chrono::seconds kTimeToGive{10};

struct ReplayReport {
  std::string law;  ///< empty: as recorded
  std::size_t files = 0;
  std::size_t runs = 0;
  std::size_t torn = 0;
  Bytes bytes{};
  std::uint64_t missing_files = 0;
  std::uint64_t missing_ticks = 0;
  std::chrono::milliseconds from{};  ///< wall time of the first tick
  std::chrono::milliseconds to{};
  std::uint64_t ticks = 0;
  std::uint64_t warm_up = 0;              ///< of them, not counted
  std::uint64_t warm_up_differences = 0;  ///< of them, with other plans
  std::uint64_t different = 0;            ///< ticks that count with any difference
  std::uint64_t host_states = 0;          ///< of them, with another state of the host
  std::uint64_t over_budget = 0;          ///< recorded ticks at which guests had more than the budget
  Bytes over_budget_most{};               ///< the most that it was
  std::chrono::milliseconds over_budget_most_at{};  ///< wall time of that
  /// Of them, those at which guests had more than the budget had been at any time within kTimeToGive: nothing
  /// that the host itself took explains that.
  std::uint64_t over_promised = 0;
  std::map<std::string, GuestReplay> guests{};
  std::optional<FirstDifference> first{};
};

struct ReplayOptions {
  std::string guest{};  ///< only this one counts; empty: all
  /// Called with bytes read and bytes altogether.
  std::function<void(std::uint64_t, std::uint64_t)> on_progress{};
};

/// Goes through `path`, a file or directory, in constant memory.
Result<ReplayReport> replay(const std::string& path, const Alternate& alternate,
                            const ReplayOptions& options);

/// As a table to read, as one JSON document, or one line for each guest.
std::string to_table(const ReplayReport& report);
std::string to_json(const ReplayReport& report);
std::string to_csv(const ReplayReport& report);

}  // namespace balloon::policy::sim
