// SPDX-License-Identifier: Apache-2.0
// What QEMU's answers mean, in the units used everywhere here: bytes, and sizes that are left to the guest.
// Pure. Every value comes from another process, and most of them from the guest: nothing is taken as given.
#pragma once

#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "base/error.h"
#include "policy/types.h"

namespace balloon::daemon::qmp {

using policy::Bytes;

/// query-name: unset when QEMU was started without -name.
Result<std::optional<std::string>> read_name(const nlohmann::json& answer);

/// query-uuid: unset when QEMU was started without -uuid.
Result<std::optional<std::string>> read_uuid(const nlohmann::json& answer);

/// query-cpus-fast: how many the guest has.
Result<std::uint32_t> read_cpus(const nlohmann::json& answer);

/// query-memory-size-summary: boot memory and plugged modules.
Result<Bytes> read_memory_size(const nlohmann::json& answer);

/// qom-list: name of the first child that is a virtio balloon of any transport; unset: there is none.
Result<std::optional<std::string>> find_balloon(const nlohmann::json& answer);

/// qom-list: why what is in it keeps a balloon from freeing memory, for a person; empty: nothing does. Types
/// are those of QEMU 10.1 (qapi/qom.json; hw/vfio).
Result<std::string> find_interlock(const nlohmann::json& answer);

/// query-balloon and the event BALLOON_CHANGE: what the guest has left.
Result<Bytes> read_actual(const nlohmann::json& answer);

struct RunState {
  bool running = true;
  std::string status;  ///< "running", "paused", "prelaunch", "inmigrate", "postmigrate" and others
};
/// query-status.
Result<RunState> read_run_state(const nlohmann::json& answer);

/// query-migrate: the guest's memory is being sent to another process now.
Result<bool> read_migrating(const nlohmann::json& answer);

/// query-jobs (QEMU 3.0 and later), of those that are under way.
struct Jobs {
  bool snapshots = false;  ///< one saves, loads or deletes a snapshot of the guest
  bool backs_up = false;   ///< one copies its disks
};
Result<Jobs> read_jobs(const nlohmann::json& answer);

/// qom-get of guest-stats. Values that the guest did not send are unset.
struct Statistics {
  /// By QEMU's clock, in full seconds; unset: the guest has sent none since QEMU started.
  std::optional<std::chrono::seconds> updated_at;
  std::optional<Bytes> swap_in, swap_out, free, total, available, disk_caches;
  std::optional<std::uint64_t> major_faults, minor_faults, hugetlb_allocations, hugetlb_failures, oom_kills,
      alloc_stalls, async_scans, direct_scans, async_reclaims, direct_reclaims;
};
/// Fails when a value is no number, is negative (but for -1, which means unknown) or has a fraction.
Result<Statistics> read_statistics(const nlohmann::json& answer);

/// qom-get of guest-stats-polling-interval: zero is off.
Result<std::chrono::seconds> read_polling_interval(const nlohmann::json& answer);

/// x-query-virtio-status of the balloon (QEMU 7.2 and later): the guest's driver.
struct Driver {
  bool ready = false;  ///< DRIVER_OK
  bool statistics = false;
  bool deflate_on_oom = false;
  bool free_page_reporting = false;
};
Result<Driver> read_driver(const nlohmann::json& answer);

/// query-blockstats: bytes that the guest has read from all its disks since QEMU started.
Result<Bytes> read_disk_reads(const nlohmann::json& answer);

}  // namespace balloon::daemon::qmp
