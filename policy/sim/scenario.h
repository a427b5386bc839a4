// SPDX-License-Identifier: Apache-2.0
// A scenario: one host, its guests, what happens when, and which time is judged. Plain values;
// scenario_file.h reads them from YAML, generator.h makes random ones.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "policy/sim/devices.h"
#include "policy/sim/effects.h"
#include "policy/sim/physics.h"
#include "policy/sim/signal.h"
#include "policy/tunables.h"
#include "policy/types.h"

namespace balloon::policy::sim {

struct KsmSpec {
  bool present = false;
  bool run = false;
  std::uint64_t pages_to_scan = 100;                               ///< the kernel's default
  std::chrono::nanoseconds sleep = std::chrono::milliseconds(20);  ///< the kernel's default
};

struct HostSpec {
  Bytes memory = 8 * kGiB;
  SignalSpec own;                ///< what its own processes use
  SignalSpec cache;              ///< page cache it would like to have: given up at once when memory is short
  SignalSpec arc;                ///< a cache that counts as used and shrinks slowly (ZFS)
  std::optional<Bytes> arc_min;  ///< what it keeps; unset: by OpenZFS' rule
  SwapDevice swap = SwapDevice::nvme(8 * kGiB);
  KsmSpec ksm;
  HostEffects effects;
};

/// What a guest's statistics are like when they reach the daemon.
enum class Lie : std::uint8_t {
  none,
  available_zero,
  available_unknown,  ///< 2^64-1: what QEMU gives for "not known"
  available_above_total,
  counters_back,  ///< each sample's counters are below the last's
  frozen,         ///< the first sample's values for ever
};

struct StatsSpec {
  bool present = true;
  bool caches = true;      ///< free and disk caches
  bool swap = true;        ///< swap in and out, major faults
  bool pressure = true;    ///< the tags of Linux 6.12
  bool disk_reads = true;  ///< its VMM counts what its disks serve
  Time period = std::chrono::seconds(1);
  Time age = std::chrono::milliseconds(20);  ///< how old a sample is when it arrives
  Time jitter{};                             ///< at most this much older still
  double loss = 0;                           ///< part of the samples that never arrive
  Lie lie = Lie::none;
};

enum class Driver : std::uint8_t {
  normal,
  absent,
  stuck,  ///< the balloon cannot make the guest smaller than stuck_at
  slow,   ///< a page each five seconds: allocation fails, is retried after 200 ms, and rarely succeeds
};

struct ReservationSpec {
  Time at{};
  Bytes min{};
  Bytes max{};
  std::uint32_t priority = 100;
  Time deadline = std::chrono::seconds(30);    ///< after `at`
  Time start_after = std::chrono::seconds(1);  ///< its guest starts so long after the grant
};

struct GuestSpec {
  std::string name;  ///< unique
  Bytes memory = 2 * kGiB;
  GuestLimits limits{256 * kMiB, 2 * kGiB, 100, {}};

  SignalSpec anon;                         ///< bytes its programs hold
  SignalSpec hot;                          ///< file pages that they use again and again
  SignalSpec cold;                         ///< file pages that lie about when there is room
  SignalSpec stream;                       ///< bytes a second of files that are read once and never again
  SignalSpec arc;                          ///< what an ARC of its own would hold (ZFS)
  SignalSpec kernel;                       ///< empty: 6 % of its memory, at least 64 MiB
  SignalSpec mergeable;                    ///< ratio of its anonymous memory that is the same elsewhere
  SignalSpec busy;                         ///< part of a CPU that its programs use for other things
  Time shift{};                            ///< its signals happen so much later
  double anon_idle = 0;                    ///< ratio of its anonymous memory that nobody touches
  double cold_rate = 50.0 * (1ULL << 20);  ///< bytes a second at which cold pages are read in
  bool cold_counts = false;                ///< missing cold pages are a deficit too

  SwapDevice swap = {kGiB, std::chrono::microseconds(100), 200.0 * (1ULL << 20)};
  Disk disk;
  GuestEffects effects;
  Driver driver = Driver::normal;
  Bytes stuck_at{};
  bool pinned = false;  ///< VFIO: what the balloon takes stays the guest's
  bool deflate_on_oom = true;
  bool free_page_reporting = true;
  Time command_latency = std::chrono::milliseconds(10);
  StatsSpec stats;

  Time joins{};  ///< 0: it runs when the scenario begins
  std::optional<Time> leaves;
  Time boot = std::chrono::seconds(15);
  std::optional<ReservationSpec> reservation;  ///< it starts when this is granted, not by `joins`
};

/// Something that goes wrong, from `at` to `until`.
struct Event {
  enum class Kind : std::uint8_t {
    daemon_down,    ///< nobody decides; a new controller comes back
    backend_hangs,  ///< no statistics of one guest, and its commands wait
    stats_silent,   ///< no statistics of one guest
    stats_lie,      ///< one guest's statistics are lies
    link_lost,      ///< one guest's VMM runs, but has no connection to the daemon
    limits_change,  ///< a guest's limits are others from `at` on
  };
  Kind kind = Kind::daemon_down;
  Time at{};
  Time until{};
  std::string guest;  ///< where it concerns one
  Lie lie = Lie::none;
  GuestLimits limits;
};

struct Window {
  Time from{};
  Time to{};
};

struct Scenario {
  std::string name;
  std::string summary;  ///< what it shows
  Time duration = std::chrono::minutes(10);
  HostSpec host;
  std::vector<GuestSpec> guests;  ///< sorted by name
  std::vector<GroupLimits> groups;
  std::vector<Event> events;   ///< sorted by time
  std::vector<Window> judged;  ///< sorted, apart from each other; scores count these
  Tunables tunables;           ///< of our engine
  Speeds speeds;               ///< of its machine
};

}  // namespace balloon::policy::sim
