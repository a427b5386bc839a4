// SPDX-License-Identifier: Apache-2.0
// A reservation as the daemon knows it: what was asked for, what became of it, and what callers are told.
#pragma once

#include <sys/types.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "balloond/clock.h"
#include "policy/types.h"

namespace balloon::daemon {

using policy::Bytes;

/// As a guest's boot memory (guests/sanitize.cc).
inline constexpr Bytes kReservationSizeMax = 64 * kTiB;
// scheduler.proto, ReserveRequest.
inline constexpr std::uint32_t kReservationPriorityMax = 10'000;
inline constexpr std::chrono::nanoseconds kLeaseMax = std::chrono::hours(24);
inline constexpr std::size_t kRequestIdMax = 128;
inline constexpr std::size_t kOwnerMax = 64;

struct ReservationRequest {
  std::string id{};
  Bytes min{};
  Bytes max{};
  std::uint32_t priority = 100;
  std::chrono::nanoseconds within{};  ///< the memory must be there
  std::chrono::nanoseconds lease{};   ///< how long a grant is kept
  std::string request_id{};           ///< names the wish among those of the user; empty: it has no name
  std::string owner{};                ///< for people
  uid_t uid = static_cast<uid_t>(-1);
  bool detached = false;  ///< it goes on though nobody waits for it

  bool wants_the_same(const ReservationRequest& other) const {
    return id == other.id && min == other.min && max == other.max && priority == other.priority;
  }
};

/// What the guest that is to come may be started with.
inline Bytes boot_memory_of(const ReservationRequest& wish) { return std::max(wish.min, wish.max); }

struct ReservationRecord {
  ReservationRequest wish{};
  Time since{};              ///< when it was asked for; once granted, when it was granted or found granted
  std::uint64_t number = 0;  ///< in the order in which they came
  std::string token{};       ///< what changes it; empty: of a daemon that gave none, so whoever asks may
  Time deadline{};
  WallTime deadline_wall{};
  policy::GrantState state = policy::GrantState::pending;
  Bytes granted{};
  bool committed = false;  ///< its guest is being started
  Time lease_ends{};       ///< once granted
  WallTime lease_until{};

  bool is_granted() const { return state == policy::GrantState::granted; }
};

/// What became of a wish, or of a call about one.
struct ReservationOutcome {
  enum class Kind : std::uint8_t {
    granted,
    refused,     ///< at the first look: it cannot be had
    expired,     ///< it could not be had in its time
    released,    ///< by whoever has its token, or because nobody waits for it
    lapsed,      ///< its lease ran out
    joined,      ///< its guest has come
    name_taken,  ///< at the first look: a guest of that name runs
    unsaved,     ///< it could not be written down, so all is as it was before
  } kind = Kind::granted;
  ReservationRecord record{};
  std::string reason{};  ///< of one that is not granted
};

/// How reservations end, by ReservationOutcome::Kind less one.
inline constexpr std::array<std::string_view, 7> kReservationEnds{
    "refused", "expired", "released", "lapsed", "joined", "name_taken", "unsaved"};

/// For the metrics. Written by the book, read by any thread.
struct ReservationCounters {
  std::array<std::atomic<std::uint64_t>, kReservationEnds.size()> ended{};  ///< by kReservationEnds
  std::atomic<std::uint64_t> granted{0};
  std::atomic<std::uint64_t> granted_bytes{0};
  std::atomic<std::uint64_t> used_bytes{0};  ///< of grants whose guest came
};

/// One that is no more.
struct EndedReservation {
  ReservationOutcome outcome{};
  Time at{};
  WallTime at_wall{};
};

/// Why a call is refused at once.
struct ReservationRefusal {
  enum class Kind : std::uint8_t {
    not_found,
    not_yours,    ///< neither its token nor force
    wrong_state,  ///< that cannot be done to one that is as it is
    taken,        ///< the id is another's, or the request_id has another wish
    ended,        ///< what was asked for again has ended
    too_many,
  } kind = Kind::not_found;
  std::string reason{};
};

/// All that is to be kept, in the order in which it came.
struct KeptReservations {
  std::uint64_t revision = 0;
  std::vector<ReservationRecord> grants{};
  std::vector<EndedReservation> ended{};  ///< grants whose request may be asked again
};

}  // namespace balloon::daemon
