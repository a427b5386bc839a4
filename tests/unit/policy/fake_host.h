// SPDX-License-Identifier: Apache-2.0
// A host of guests with ideal accounting and balloons of finite speed, for tests of whole control loops.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "policy/engine.h"
#include "policy/executor.h"

namespace balloon::policy {

struct FakeGuest {
  GuestSnapshot seen;
  Bytes used{};                 ///< what its programs and kernel hold, if it had room
  Bytes speed = 512 * kMiB;     ///< of its balloon, bytes a second
  bool answers = true;          ///< sends statistics
  std::optional<Bytes> free{};  ///< what it says is free, if it does; the rest of what is available is cache
  Bytes sticks_at{};            ///< its balloon shrinks it no further
};

class FakeHost {
 public:
  explicit FakeHost(Bytes total, Bytes own_use = 300 * kMiB) : total_(total), own_use_(own_use) {}

  FakeGuest& add(Bytes memory, Bytes used, GuestLimits limits) {
    FakeGuest guest;
    guest.seen.name = fmt::format("g{:04}", guests.size());
    guest.seen.memory = guest.seen.actual = guest.seen.target = memory;
    guest.seen.limits = limits;
    guest.seen.controllable = true;
    guest.used = used;
    guests.push_back(std::move(guest));
    return guests.back();
  }

  Snapshot snapshot() {
    Snapshot snapshot;
    snapshot.now = now;
    Bytes resident{};
    for (FakeGuest& guest : guests) {
      guest.seen.on_host.resident = std::min(guest.used, guest.seen.actual);
      resident += guest.seen.on_host.resident;
      if (guest.answers) {
        GuestStats stats;
        stats.sampled_at = now;
        stats.actual = guest.seen.actual;
        stats.total = guest.seen.memory;
        stats.available = guest.seen.actual - guest.seen.on_host.resident;
        stats.free = guest.free;
        guest.seen.stats = stats;
      }
      snapshot.guests.push_back(guest.seen);
    }
    snapshot.groups = groups;
    snapshot.reservations = reservations;
    snapshot.host.total = total_;
    snapshot.host.available = total_ - std::min(total_, own_use_ + resident);
    return snapshot;
  }

  /// One decision, its moves, and `tick` of balloon movement.
  Plan step(Engine& engine, std::chrono::nanoseconds tick = std::chrono::seconds(1)) {
    const Snapshot seen = snapshot();
    Plan plan = engine.decide(seen);
    last_moves = admit(plan, seen.guests);
    for (const Move& move : last_moves) guests[move.guest].seen.target = move.target;
    settle(tick);
    return plan;
  }

  /// `tick` of balloon movement.
  void settle(std::chrono::nanoseconds tick) {
    for (FakeGuest& guest : guests) {
      const auto most =
          static_cast<Bytes>(static_cast<double>(guest.speed) * std::chrono::duration<double>(tick).count());
      Bytes& actual = guest.seen.actual;
      const Bytes target = guest.seen.target;
      actual = actual > target
                   ? std::max({target, actual - std::min(actual, most), std::min(actual, guest.sticks_at)})
                   : std::min(target, actual + most);
    }
    now += tick;
  }

  /// The host itself takes more, or less.
  void use(Bytes own_use) { own_use_ = own_use; }

  Bytes committed() const {
    Bytes sum{};
    for (const FakeGuest& guest : guests) sum += std::max(guest.seen.actual, guest.seen.target);
    return sum;
  }

  std::vector<FakeGuest> guests;
  std::vector<GroupLimits> groups;
  std::vector<Reservation> reservations;
  std::vector<Move> last_moves;
  Time now = std::chrono::hours(1);

 private:
  Bytes total_;
  Bytes own_use_;
};

}  // namespace balloon::policy
