// SPDX-License-Identifier: Apache-2.0
// What the control loop has done since it started, for the metrics. Written by the control thread, read by
// any.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "balloond/control/guest_state.h"

namespace balloon::daemon {

/// policy::Condition has the values 0 to 12.
inline constexpr std::size_t kConditions = 13;

struct Counters {
  std::array<std::atomic<std::uint64_t>, kReasons.size()> decisions{};  ///< by reason
  std::array<std::atomic<std::uint64_t>, kConditions> blocked{};  ///< decisions, by what would change them
  std::atomic<std::uint64_t> shrinks{0};
  std::atomic<std::uint64_t> grows{0};
  std::atomic<std::uint64_t> bytes_shrunk{0};  ///< asked for
  std::atomic<std::uint64_t> bytes_grown{0};
  std::atomic<std::uint64_t> reversals{0};  ///< moves against the guest's last one, within a minute
  std::atomic<std::uint64_t> shadow_decisions{0};
  std::atomic<std::uint64_t> shadow_different{0};  ///< of them: some guest would have had another target
  std::atomic<std::uint64_t> stats_requests{0};    ///< for fresh ones, out of turn
  std::atomic<std::uint64_t> failed_ticks{0};      ///< the host could not be sampled
};

}  // namespace balloon::daemon
