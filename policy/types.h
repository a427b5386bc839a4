// What the brain sees and says. Plain values: no I/O, no clock, no threads. Sizes in bytes; a guest's size is
// the memory left to it (boot memory less balloon).
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace balloon::policy {

using Bytes = std::uint64_t;
/// Monotonic time since an arbitrary origin.
using Time = std::chrono::nanoseconds;

/// Newest statistics of one guest. Everything here comes from the guest and may be absent, old, absurd or
/// hostile.
struct GuestStats {
  Time sampled_at{};
  Bytes actual = 0;  ///< the guest's size when sampled, by the VMM's account
  std::optional<Bytes> total;
  std::optional<Bytes> available;
  std::optional<Bytes> free;
  std::optional<Bytes> disk_caches;
  std::optional<Bytes> swap_in;               ///< since boot
  std::optional<Bytes> swap_out;              ///< since boot
  std::optional<std::uint64_t> major_faults;  ///< since boot
};

/// What policy grants a guest, resolved for it.
struct GuestLimits {
  Bytes min = 0;  ///< guaranteed
  Bytes max = 0;  ///< at most boot memory
  std::uint32_t weight = 100;
};

/// A target set by a person or scheduler.
struct Pin {
  Bytes target = 0;
};

/// One guest at one tick.
struct GuestSnapshot {
  std::string name;  ///< unique
  Bytes memory = 0;  ///< boot memory
  GuestLimits limits;
  Bytes actual = 0;           ///< size it has, by the VMM's account
  Bytes target = 0;           ///< size last asked for
  Bytes resident = 0;         ///< of its VMM process on the host; 0 when unknown
  Bytes swapped = 0;          ///< of its VMM process, in host swap
  bool controllable = false;  ///< connected and its balloon driver is up
  std::optional<GuestStats> stats;
  std::optional<Pin> pin;
};

/// The host at one tick. Rates are the caller's to compute: here are counters and gauges as sampled.
struct HostSnapshot {
  Bytes total = 0;
  Bytes free = 0;
  Bytes available = 0;
  Bytes swap_total = 0;
  Bytes swap_free = 0;
  Bytes swap_in = 0;         ///< since boot
  Bytes swap_out = 0;        ///< since boot
  double pressure_some = 0;  ///< PSI memory some avg10, 0 to 1
  double pressure_full = 0;
};

struct Snapshot {
  Time now{};
  HostSnapshot host;
  std::vector<GuestSnapshot> guests;  ///< sorted by name
};

/// Which constraint bound a target. Mirrors balloon.v1.Reason, value for value.
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

enum class HostState : std::uint8_t { unspecified, normal, tight, infeasible };

enum class GuestState : std::uint8_t { unspecified, booting, controlled, stale, stuck, pinned, disconnected };

struct GuestPlan {
  std::string name;
  GuestState state = GuestState::unspecified;
  Bytes used = 0;    ///< believed to be in use
  Bytes need = 0;    ///< what it should have if nothing else limited it
  Bytes share = 0;   ///< what water-filling gave it
  Bytes target = 0;  ///< what to ask for now
  Reason reason = Reason::unspecified;
};

struct Plan {
  HostState state = HostState::unspecified;
  Bytes budget = 0;               ///< what guests may have altogether
  std::vector<GuestPlan> guests;  ///< same guests, same order as the snapshot
};

/// A plan's guest in a sentence, with the figures.
std::string explain(const Plan& plan, const GuestPlan& guest, const GuestSnapshot& seen);

}  // namespace balloon::policy
