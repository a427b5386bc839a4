// SPDX-License-Identifier: Apache-2.0
// What a guest's state is, and why its target is what it is, to whoever asks: as the plan says it, but for
// what only the daemon knows, which is why nobody moves a balloon.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "policy/types.h"

namespace balloon::daemon {

struct GuestStatus;

/// Mirrors balloon.v1.GuestState, value for value; policy's states come first.
enum class GuestState : std::uint8_t {
  unspecified,
  booting,
  controlled,
  stale,
  stuck,
  pinned,
  disconnected,
  blind,
  paused,
  left_alone,
  contested,
};
inline constexpr std::array<std::string_view, 11> kGuestStates{
    "unspecified",  "booting", "controlled", "stale",      "stuck",    "pinned",
    "disconnected", "blind",   "paused",     "left_alone", "contested"};

/// Mirrors balloon.v1.Reason, value for value; policy's reasons come first.
enum class Reason : std::uint8_t {
  unspecified,
  need,
  minimum,
  maximum,
  share,
  deadband,
  rate_limit,
  hold,
  pin,
  stale,
  waiting,
  surplus,
  stuck,
  left_alone,
  disconnected,
  paused,
  contested,
  booting,
};
inline constexpr std::array<std::string_view, 18> kReasons{
    "unspecified", "need",       "minimum",      "maximum", "share",     "deadband",
    "rate_limit",  "hold",       "pin",          "stale",   "waiting",   "surplus",
    "stuck",       "left_alone", "disconnected", "paused",  "contested", "booting"};

GuestState state_of(const GuestStatus& guest);

/// Of a guest that is not moved, its state.
Reason reason_of(const GuestStatus& guest);

/// What would have changed its target: for one whose balloon is out of reach, a balloon that moves.
policy::Condition blocker_of(const GuestStatus& guest);

inline std::string_view word_of(GuestState state) { return kGuestStates.at(static_cast<std::size_t>(state)); }

}  // namespace balloon::daemon
