// SPDX-License-Identifier: Apache-2.0
// What a guest's QEMU is asked, and what it has said so far: whose guest it is, its balloon, its figures.
// Pure. A dialogue lasts as long as the process of QEMU, over however many connections.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "balloond/guests/guest.h"
#include "balloond/guests/held_memory.h"
#include "balloond/guests/qmp/readings.h"
#include "balloond/guests/qmp/session.h"
#include "balloond/host/process.h"

namespace balloon::daemon::qmp {

/// The command that asks for a size: QEMU takes what is to be left to the guest, in bytes.
Command target_command(Bytes target);
/// QEMU's balloon moves by pages of 4 KiB, whatever the guest's are: the size that `target` comes to.
Bytes granted_target(Bytes target);

class Dialogue {
 public:
  /// `shared`: others use the socket, too. Their interval of statistics holds, and is only set when polling
  /// is off; and the guest is left alone while they back it up.
  Dialogue(std::chrono::seconds interval, bool shared) : interval_(interval), shared_(shared) {}

  /// Who the guest is. Asked first.
  std::vector<Command> identity_questions() const;
  /// How the guest is. `all`: what seldom changes, too.
  std::vector<Command> figure_questions(bool all) const;
  /// What must be set after figure_questions(true): the interval of statistics.
  std::vector<Command> corrections() const;

  /// Fails when the answer makes no sense; what was known before stays.
  Result<void> take(const Answer& answer);
  Result<void> take(const Event& event);

  /// Takes what the kernel says of its process: QMP does not tell how the guest's memory is held.
  void take(const ProcessMemory& process);

  void set_interval(std::chrono::seconds interval) { interval_ = interval; }

  bool identified() const { return memory_.has_value() && lists_ >= 3; }
  /// Introduces the guest; names and labels are made fit. `fallback`: its name where QEMU has none.
  Registration registration(const std::string& fallback) const;
  const std::optional<std::string>& uuid() const { return uuid_; }
  Bytes memory() const { return memory_.value_or(Bytes{}); }
  /// As QEMU says, or all memory while no driver holds a balloon: QEMU goes on to say the size from before a
  /// reset.
  Bytes actual() const;
  BalloonState balloon(Bytes target) const;
  const std::optional<Statistics>& statistics() const { return statistics_; }
  /// How often QEMU has said the balloon's size.
  std::uint64_t sizes() const { return sizes_; }
  const std::optional<Bytes>& disk_reads() const { return disk_reads_; }
  /// Why its balloon must not be moved now; empty: it may.
  std::string obstacle() const;
  /// It is migrated, backed up or put into a snapshot: until that is over a shared socket is better left to
  /// its owner.
  bool owner_is_at_work() const { return migrating_ || jobs_.snapshots || jobs_.backs_up; }

 private:
  Result<void> take_value(Question question, const nlohmann::json& value);
  Result<void> take_failure(Question question, const Failure& failure);
  bool driver_ready() const;

  std::chrono::seconds interval_;
  bool shared_;
  std::optional<std::string> name_, uuid_;
  std::optional<Bytes> memory_;
  std::uint32_t vcpus_ = 0;
  int lists_ = 0;  ///< of devices, looked through
  std::array<std::string, 4>
      interlocks_;            ///< why a balloon frees nothing, by the folders of devices and objects
  HeldMemory held_;           ///< the same, by its process
  std::string balloon_path_;  ///< in QEMU's tree of objects; empty: it has none
  std::optional<Bytes> actual_;
  std::uint64_t sizes_ = 0;
  std::optional<Statistics> statistics_;
  std::optional<std::chrono::seconds> updated_at_reset_;  ///< statistics of the time before the last reset
  std::optional<Driver> driver_;
  bool knows_driver_ = true;  ///< QEMU has x-query-virtio-status (7.2 and later)
  std::optional<std::chrono::seconds> polling_interval_;
  std::optional<Bytes> disk_reads_;
  RunState run_state_;
  bool migrating_ = false;
  Jobs jobs_;
  bool knows_jobs_ = true;  ///< QEMU has query-jobs (3.0 and later)
};

/// `statistics` as a sample of a guest of that size. QEMU gives their time in whole seconds: it is taken for
/// as late in its second as it can be at `seen`.
StatsSample sample_of(const Statistics& statistics, Bytes actual, WallTime seen);

}  // namespace balloon::daemon::qmp
