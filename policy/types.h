// SPDX-License-Identifier: Apache-2.0
// What the brain sees and says. Plain values: no I/O, no clock, no threads. Sizes in bytes; a guest's size is
// the memory left to it (boot memory less balloon).
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"

namespace balloon::policy {

using balloon::Bytes;
/// Monotonic time since an arbitrary origin.
using Time = std::chrono::nanoseconds;

/// Newest statistics of one guest. Everything here comes from the guest and may be absent, old, absurd or
/// hostile.
struct GuestStats {
  Time sampled_at{};
  Bytes actual{};  ///< the guest's size when sampled, by the VMM's account
  std::optional<Bytes> total;
  std::optional<Bytes> available;
  std::optional<Bytes> free;
  std::optional<Bytes> disk_caches;
  std::optional<Bytes> swap_in;               ///< since boot
  std::optional<Bytes> swap_out;              ///< since boot
  std::optional<std::uint64_t> major_faults;  ///< since boot
  /// Bytes that its disks served since boot, what it swapped to them among them: counted by its VMM, not by
  /// the guest.
  std::optional<Bytes> disk_read;
  // Linux 6.12 and later (include/uapi/linux/virtio_balloon.h), all since boot:
  std::optional<std::uint64_t> oom_kills;
  std::optional<std::uint64_t> alloc_stalls;     ///< allocations that had to reclaim directly
  std::optional<std::uint64_t> direct_scans;     ///< pages looked at by direct reclaim
  std::optional<std::uint64_t> direct_reclaims;  ///< pages freed by it
  bool operator==(const GuestStats&) const = default;
};

/// What the host itself sees of one guest, whatever the guest says: of its VMM's process and cgroup.
struct GuestOnHost {
  Bytes resident{};  ///< 0 when unknown
  Bytes swapped{};   ///< in host swap
  /// From host swap, since some time: of its cgroup (memory.stat), or by its major faults.
  std::optional<Bytes> swap_in;
  std::optional<double> pressure_some;    ///< PSI memory some avg10 of its cgroup, 0 to 1
  std::optional<std::uint64_t> refaults;  ///< pages, since its cgroup was made (workingset_refault_*)
  bool pinned = false;  ///< its memory cannot be released (VFIO, mlock): a balloon frees nothing
  bool merging = true;  ///< KSM may share its pages, unless its VMM says that it may not
  bool operator==(const GuestOnHost&) const = default;
};

/// What policy grants a guest, resolved for it.
struct GuestLimits {
  Bytes min{};  ///< guaranteed
  Bytes max{};  ///< at most boot memory
  std::uint32_t weight = 100;
  /// Guests of one group share its weight and stay within its limits; empty: a group of its own.
  std::string group{};
  /// Its margin is this multiple of the engine's (margin_ratio, margin_min): its SLO class, or its own rule.
  double margin_factor = 1;
  bool ksm = true;  ///< its memory may be merged with others'
  bool operator==(const GuestLimits&) const = default;
};

/// A group's own part of the host, resolved by policy. Guests name it in their limits.
struct GroupLimits {
  std::string name;  ///< unique
  Bytes min{};       ///< guaranteed to its guests together, where they need it
  Bytes max = Bytes::max();
  std::uint32_t weight = 100;
  bool operator==(const GroupLimits&) const = default;
};

/// A guest to be: memory that a scheduler asks for before it starts one. Its grant counts as given away.
struct Reservation {
  std::string id;                ///< unique
  Bytes min{};                   ///< less is no use
  Bytes max{};                   ///< more is not wanted
  std::uint32_t priority = 100;  ///< as a weight among guests
  Time deadline{};               ///< the grant must be there by then, else it is refused
  Bytes granted{};               ///< it was granted so much before, perhaps by an engine that is no more
  bool operator==(const Reservation&) const = default;
};

/// A target set by a person or scheduler.
struct Pin {
  Bytes target{};
  bool operator==(const Pin&) const = default;
};

/// One guest at one tick.
struct GuestSnapshot {
  std::string name;  ///< unique
  Bytes memory{};    ///< boot memory
  GuestLimits limits;
  Bytes actual{};  ///< size it has, by the VMM's account
  Bytes target{};  ///< size last asked for
  GuestOnHost on_host;
  bool controllable = false;  ///< connected and its balloon driver is up
  std::optional<GuestStats> stats;
  std::optional<Pin> pin;
  bool operator==(const GuestSnapshot&) const = default;
};

/// Kernel samepage merging (Documentation/admin-guide/mm/ksm.rst), as sampled.
struct KsmSnapshot {
  bool running = false;
  Bytes shared{};    ///< pages that stand for several (pages_shared)
  Bytes sharing{};   ///< what they save (pages_sharing)
  Bytes unshared{};  ///< looked at in vain (pages_unshared)
  std::uint64_t pages_to_scan = 0;
  std::chrono::nanoseconds sleep{};
  bool controllable = false;  ///< a plan for it is carried out; else somebody else runs it, or nobody
  bool operator==(const KsmSnapshot&) const = default;
};

/// The host at one tick. Rates are the caller's to compute: here are counters and gauges as sampled.
struct HostSnapshot {
  Bytes total{};
  Bytes free{};
  Bytes available{};
  Bytes swap_total{};
  Bytes swap_free{};
  Bytes swap_in{};           ///< since boot
  Bytes swap_out{};          ///< since boot
  double pressure_some = 0;  ///< PSI memory some avg10, 0 to 1
  double pressure_full = 0;
  std::optional<KsmSnapshot> ksm;
  Bytes arc{};  ///< what ZFS' cache would give back before it is at its minimum; no part of `available`
  bool operator==(const HostSnapshot&) const = default;
};

/// What programs on the host could have without anything being swapped.
constexpr Bytes obtainable(const HostSnapshot& host) {
  return host.available + std::min(host.arc, above(host.total, host.available));
}

struct Snapshot {
  Time now{};
  HostSnapshot host;
  std::vector<GuestSnapshot> guests;      ///< sorted by name
  std::vector<GroupLimits> groups;        ///< sorted by name
  std::vector<Reservation> reservations;  ///< in the order in which they came
  bool operator==(const Snapshot&) const = default;
};

/// Which constraint bound a target. The first values of balloon.v1.Reason, which tells more apart.
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
};

/// Mirrors balloon.v1.HostState, value for value.
enum class HostState : std::uint8_t {
  unspecified,
  normal,
  tight,       ///< needs exceed the budget, or the host's free memory is getting low
  infeasible,  ///< even the guaranteed minimums exceed the budget
  critical,    ///< the host is short of memory: margins shrink, and guests under pressure give too
  emergency,   ///< next to nothing is free
};

enum class GuestState : std::uint8_t { unspecified, booting, controlled, stale, stuck, pinned, disconnected };

/// What a guest's need was estimated from.
enum class Source : std::uint8_t {
  none,        ///< nothing to go by: it is held
  statistics,  ///< its own
  host,        ///< what the host sees of it, for want of statistics
};

/// How far a guest's statistics are believed.
enum class Trust : std::uint8_t {
  absent,
  believed,
  limited,     ///< it claims more than it can have touched: taken for what the host sees
  impossible,  ///< contradicts itself
  stale,
};

/// How much a guest hurts.
enum class Pressure : std::uint8_t { none, pressed, critical };

/// What shows that it does.
enum class Signal : std::uint8_t {
  none,
  low_available,
  swap_in,
  major_faults,
  alloc_stalls,  ///< with pages scanned by direct reclaim
  oom_kill,
  host_swap_in,
  host_refaults,
  host_pressure,
};

/// What a need is made of; the terms add up to it, apart from the guest's limits.
struct NeedTerms {
  Bytes used{};
  Bytes margin{};
  Bytes growth{};   ///< expected within the horizon
  Bytes swapped{};  ///< to its own swap and not back
  Bytes cache{};    ///< page cache that major faults showed to be in use
  Bytes rescue{};   ///< more, since what it lacks is unknown
  Bytes recent{};   ///< of a higher need a moment ago
  bool operator==(const NeedTerms&) const = default;
};

/// What would have changed a target: the nearest thing that would.
enum class Condition : std::uint8_t {
  none,           ///< nothing: it has what it needs
  budget,         ///< more memory for guests: `amount` more
  maximum,        ///< a higher maximum
  minimum,        ///< a lower minimum
  group,          ///< a higher maximum of its group
  larger_change,  ///< a change above the deadband of `amount`
  time,           ///< `wait` more
  others,         ///< `amount` that others have yet to free
  pressure,       ///< no pressure on it
  growth,         ///< no growth of its use
  statistics,     ///< statistics that can be believed
  balloon,        ///< a balloon that moves
  pin,            ///< no pin
};

struct Alternative {
  Condition condition = Condition::none;
  Bytes target{};  ///< what it would have been given then
  Bytes amount{};
  std::chrono::nanoseconds wait{};
  bool operator==(const Alternative&) const = default;
};

/// Why a guest's target is what it is, as data; explain() (policy/explain.h) makes a sentence of it.
struct Explanation {
  Source source = Source::none;
  Trust trust = Trust::absent;
  Pressure pressure = Pressure::none;
  Signal signal = Signal::none;
  std::chrono::nanoseconds age{};  ///< of its statistics
  Bytes available{};               ///< believed
  NeedTerms need;
  Alternative otherwise;
  bool operator==(const Explanation&) const = default;
};

struct GuestPlan {
  std::string name;
  GuestState state = GuestState::unspecified;
  Bytes used{};    ///< believed to be in use
  Bytes need{};    ///< what it should have if nothing else limited it
  Bytes share{};   ///< what water-filling gave it
  Bytes target{};  ///< what to ask for now
  /// Of what it has, what it has not touched and is not expected to touch soon. While it cannot be moved or
  /// has yet to give it, that counts for nothing (counted() in policy/holdings.h).
  Bytes untouched{};
  Reason reason = Reason::unspecified;
  Explanation why;
  bool operator==(const GuestPlan&) const = default;
};

enum class GrantState : std::uint8_t {
  pending,  ///< memory is being freed for it
  granted,  ///< `granted` bytes are free and kept for it
  denied,   ///< cannot be had by its deadline, or at all
};

struct ReservationPlan {
  std::string id;
  GrantState state = GrantState::pending;
  Bytes granted{};  ///< freed and kept for it so far; its to use when state is granted
  bool operator==(const ReservationPlan&) const = default;
};

/// How KSM should run from now on.
struct KsmPlan {
  bool run = false;
  std::uint64_t pages_to_scan = 0;  ///< each time it wakes
  std::chrono::nanoseconds sleep{};
  bool operator==(const KsmPlan&) const = default;
};

struct Plan {
  HostState state = HostState::unspecified;
  /// The host's own memory: normal, tight, critical or emergency, whatever the guests need.
  HostState level = HostState::unspecified;
  /// What guests may have altogether. When it falls, it is what they have until they have given the rest
  /// back, as far as the reserve goes.
  Bytes budget{};
  std::vector<GuestPlan> guests;              ///< same guests, same order as the snapshot
  std::vector<ReservationPlan> reservations;  ///< same reservations, same order
  std::optional<KsmPlan> ksm;                 ///< unset: leave it alone
  bool operator==(const Plan&) const = default;
};

}  // namespace balloon::policy
