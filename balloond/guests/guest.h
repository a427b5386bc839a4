// SPDX-License-Identifier: Apache-2.0
// What is said of a guest, whichever hypervisor runs it. A size is always what is left to the guest, in
// bytes; backends convert what their hypervisors say. Values that the hypervisor does not give are unset.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "balloond/clock.h"
#include "base/pages.h"
#include "policy/types.h"

namespace balloon::daemon {

using policy::Bytes;

/// Who runs a guest, by the kernel's word.
struct Peer {
  pid_t pid = 0;  ///< 0: unknown
  uid_t uid = static_cast<uid_t>(-1);
};

/// One sample of the virtio-balloon statistics queue (virtio 1.2, 5.5.6.3). All values come from the guest:
/// they are hints. Counters count from the guest's boot.
struct StatsSample {
  std::optional<WallTime> sampled_at;  ///< before 1970: what came was no time; unset: when it is received
  Bytes actual{};                      ///< by the hypervisor's account, when the sample arrived
  std::optional<Bytes> swap_in;
  std::optional<Bytes> swap_out;
  std::optional<std::uint64_t> major_faults;
  std::optional<std::uint64_t> minor_faults;
  std::optional<Bytes> free;
  std::optional<Bytes> total;
  std::optional<Bytes> available;
  std::optional<Bytes> disk_caches;
  std::optional<std::uint64_t> hugetlb_allocations;
  std::optional<std::uint64_t> hugetlb_failures;
  std::optional<std::uint64_t> oom_kills;
  std::optional<std::uint64_t> alloc_stalls;
  std::optional<std::uint64_t> async_scans;
  std::optional<std::uint64_t> direct_scans;
  std::optional<std::uint64_t> async_reclaims;
  std::optional<std::uint64_t> direct_reclaims;
  std::optional<Bytes> disk_read;  ///< by all its disks, counted by the hypervisor
  std::optional<std::chrono::nanoseconds> round_trip;
};

/// The balloon, by the hypervisor's account.
struct BalloonState {
  Bytes actual{};             ///< what the guest has
  Bytes target{};             ///< what was asked of it
  bool driver_ready = false;  ///< the guest's driver is up (DRIVER_OK)
  bool has_stats = false;     ///< the driver took VIRTIO_BALLOON_F_STATS_VQ
  bool deflate_on_oom = false;
  bool free_page_reporting = false;
  bool free_page_hinting = false;
  bool paused = false;   ///< its virtual CPUs are stopped
  std::string obstacle;  ///< why it must not be moved now, for a person; empty: it may

  bool operator==(const BalloonState&) const = default;
};

/// What the balloon did since the guest booted.
struct BalloonCounters {
  Bytes inflated{};
  Bytes reported{};
  Bytes hinted{};
  Bytes freed{};  ///< of these three, what was in the host's memory before
  Bytes deflated{};
  Bytes per_second{};  ///< speed of the move that is under way, or of the last one
  std::uint64_t stalls = 0;
  std::uint64_t refused_pages = 0;

  bool operator==(const BalloonCounters&) const = default;
};

/// What a hypervisor can do for a guest, as its backend reaches it.
struct Capabilities {
  bool statistics = false;        ///< of the guest's memory
  bool on_demand = false;         ///< statistics that the guest gathers when it is asked
  bool events = false;            ///< a balloon that moves is told at once; else it is seen at the next look
  bool reporting = false;         ///< says whether the guest's driver reports free pages
  bool ksm_switch = false;        ///< letting KSM share the guest's memory, and ending that
  bool disk_reads = false;        ///< counts what the guest's disks read
  Bytes granularity = kPageSize;  ///< sizes are multiples of it

  bool operator==(const Capabilities&) const = default;
};

/// How a guest is introduced.
struct Registration {
  std::string name;        ///< unique on the host
  std::string hypervisor;  ///< "balloon-vmm", "qemu"
  std::string version;     ///< of the hypervisor
  std::map<std::string, std::string> labels;
  Bytes memory{};  ///< boot memory
  std::uint32_t vcpus = 0;
  std::optional<BalloonState> balloon;
  std::optional<bool> merging;  ///< KSM may share its memory; unset: the hypervisor does not say
  Capabilities can;
};

}  // namespace balloon::daemon
