// SPDX-License-Identifier: Apache-2.0
// What a recording is made of: what the control law saw and what it said, tick by tick.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "policy/tunables.h"
#include "policy/types.h"

namespace balloon::policy::recording {

using Labels = std::map<std::string, std::string>;

/// How a file of a recording begins. The files of one run of the daemon, in sequence, are one recording.
struct Start {
  std::uint64_t run = 0;       ///< random, the same in all files of a run
  std::uint64_t sequence = 1;  ///< of this file in its run
  std::string version;         ///< of the program that recorded
};

struct Tick {
  std::uint64_t number = 0;          ///< of the run's decisions, from 1; a gap: some were not recorded
  std::chrono::milliseconds wall{};  ///< since the Unix epoch
  Snapshot snapshot;
  std::vector<Labels> labels;  ///< of the guests, in the snapshot's order
  Plan plan;                   ///< as decided, before the two-phase rule lets its moves through
};

/// The same in every bit: guests, reasons, explanations, reservations, KSM.
bool same(const Plan& one, const Plan& other);
bool same(const GuestPlan& one, const GuestPlan& other);
bool same(const Tunables& one, const Tunables& other);

}  // namespace balloon::policy::recording
