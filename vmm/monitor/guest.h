// SPDX-License-Identifier: Apache-2.0
// The guest as the monitor sees it. The machine implements it; tests use a fake.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "vmm/devices/balloon/balloon_control.h"
#include "vmm/devices/block/block_control.h"

namespace balloon::vmm {

enum class RunState {
  running,
  paused,
  io_error,  ///< paused by a disk, because of an error
  saving,    ///< paused for a snapshot that is being written; it goes on then
};

struct MonitorDisk {
  std::string name;
  ImageInfo image;
  bool read_only = false;
  bool writeback = true;  ///< what the guest wrote is safe when it flushes, not before
  bool direct = false;    ///< past the host's page cache
  // Limits; 0: none.
  Bytes bytes_per_second{};
  std::uint64_t requests_per_second = 0;
  BlockCounters counters{};
  IoStatus status = IoStatus::ok;  ///< since the guest was last told to go on
};

/// What a monitor tells its clients without being asked.
struct MonitorEvent {
  enum class Kind { stop, resume, shutdown, powerdown, reset, balloon_change, io_error };
  Kind kind;
  bool by_guest = false;    ///< shutdown, reset: the guest did it, not a client or the host
  const char* reason = "";  ///< shutdown, reset: QEMU's ShutdownCause (qapi/run-state.json)
  Bytes actual{};           ///< balloon_change
  // Of io_error.
  std::string device{};
  IoFailure failure{};
  std::chrono::system_clock::time_point at = std::chrono::system_clock::now();
};

/// Thread-safe. Lives through reboots; between two machines commands for a machine fail.
class MonitorGuest {
 public:
  virtual ~MonitorGuest() = default;

  virtual std::string name() const = 0;
  virtual Bytes memory() const = 0;
  virtual std::vector<MonitorDisk> disks() const = 0;
  /// The names of the network devices, in the order of the configuration.
  virtual std::vector<std::string> nets() const = 0;
  virtual RunState run_state() const = 0;
  /// The host's thread of each vCPU.
  virtual std::vector<pid_t> vcpu_threads() const = 0;

  // All but quit() return once it is done, or fail with the reason.
  virtual Result<void> stop() = 0;
  virtual Result<void> cont() = 0;
  virtual Result<void> power_button() = 0;
  virtual Result<void> reset() = 0;
  virtual void quit() = 0;
  /// Plugs in or pulls the cable of a network device, by its place in the configuration (below the number of
  /// nets()).
  virtual Result<void> set_link(std::size_t net, bool up) = 0;
  /// Writes a snapshot; the guest is paused meanwhile, and goes on if it ran before.
  virtual Result<void> save_snapshot(const std::string& path) = 0;

  virtual bool has_balloon() const = 0;
  /// The id that it was given; empty: none.
  virtual std::string balloon_id() const = 0;
  // Without a balloon: of one that is empty, and cannot be moved.
  virtual BalloonState balloon() const = 0;
  virtual bool balloon_offers_deflate_on_oom() const = 0;
  virtual bool balloon_offers_free_page_reporting() const = 0;
  virtual Result<void> set_balloon(Bytes target) = 0;
  /// The last statistics buffer; nothing: none came.
  virtual std::optional<BalloonStats> stats() const = 0;
  virtual void set_stats_interval(std::chrono::seconds interval) = 0;

  /// Called from any thread, must not block nor call back. One listener; an empty function removes it, and
  /// then no call is under way.
  virtual void listen(std::function<void(const MonitorEvent&)> on_event) = 0;
};

}  // namespace balloon::vmm
