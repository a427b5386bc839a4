// SPDX-License-Identifier: Apache-2.0
// The guest, which outlives its machines: what it has (disks with their locks, taps, files, addresses), what
// was set while it runs, and whom it tells. The monitor and the link to the daemon know it and no machine.
// Lives as long as the process.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "base/unique_fd.h"
#include "vmm/devices/balloon/balloon_hub.h"
#include "vmm/devices/balloon/no_balloon.h"
#include "vmm/machine/config.h"
#include "vmm/machine/config_identity.h"
#include "vmm/machine/guest_assets.h"
#include "vmm/machine/machine.h"
#include "vmm/monitor/guest.h"

namespace balloon::vmm {

class Guest final : public MonitorGuest {
 public:
  /// Opens what the guest has. Fails with what is wrong with the first that cannot be had.
  static Result<std::unique_ptr<Guest>> open(const VmmConfig& config);
  Guest(const Guest&) = delete;
  Guest& operator=(const Guest&) = delete;

  /// Its next machine: the first goes on from the snapshot, where the options name one; each later one boots.
  Result<std::unique_ptr<Machine>> make_machine(const MachineHost& host);
  /// The machine to command, which has not been started yet. What was set before is so in this one, too: a
  /// cable that was pulled is pulled, and a guest that a client stopped stays stopped through a reset, as in
  /// QEMU.
  Result<void> attach(Machine& machine);
  /// Before it is destroyed: when this returns no call into it is under way.
  void detach();
  const VmmConfig& config() const { return config_; }

  // For the link to the daemon; thread-safe.
  BalloonControl& linked_balloon() { return balloon_.of(BalloonHub::User::link); }
  /// Whether KSM may share equal pages of its memory.
  bool merging() const EXCLUDES(merging_mutex_);
  Result<void> set_merging(bool on) EXCLUDES(merging_mutex_);
  /// What its disks have served since it booted. Waits for nobody.
  Bytes disk_read() const;
  /// `on_pause` is told whenever the guest stops or goes on, by a client's wish.
  void observe_pause(std::function<void(bool paused)> on_pause);
  /// Tells clients how a machine ended. `final`: no other follows.
  void tell_end(const std::optional<Outcome>& outcome, bool final);

  /// Readable once a disk wants the guest to be stopped; then stop_for_disk() does it.
  int wants_stop_fd() const { return wants_stop_.get(); }
  Result<void> stop_for_disk();

  std::string name() const override { return config_.name; }
  Bytes memory() const override { return config_.memory; }
  std::vector<MonitorDisk> disks() const override;
  std::vector<std::string> nets() const override { return net_names(config_); }
  RunState run_state() const override;
  std::vector<pid_t> vcpu_threads() const override;
  Result<void> stop() override;
  Result<void> cont() override;
  Result<void> power_button() override;
  Result<void> reset() override;
  void quit() override;
  Result<void> set_link(std::size_t net, bool up) override;
  Result<void> save_snapshot(const std::string& path) override;
  bool has_balloon() const override { return config_.balloon.enabled; }
  std::string balloon_id() const override { return config_.balloon.identity.id; }
  BalloonState balloon() const override;
  bool balloon_offers_deflate_on_oom() const override { return config_.balloon.deflate_on_oom; }
  bool balloon_offers_free_page_reporting() const override { return config_.balloon.free_page_reporting; }
  Result<void> set_balloon(Bytes target) override;
  std::optional<BalloonStats> stats() const override;
  void set_stats_interval(std::chrono::seconds interval) override;
  void listen(std::function<void(const MonitorEvent&)> on_event) override;

 private:
  explicit Guest(const VmmConfig& config);
  /// Has operation_; lets go of it.
  class Operation {
   public:
    explicit Operation(Guest& guest) : guest_(guest) { guest_.operation_.lock(); }
    ~Operation();
    Operation(const Operation&) = delete;
    Operation& operator=(const Operation&) = delete;

   private:
    Guest& guest_;
  };
  void inherit(Machine& machine);
  void want_stop() const;
  void set_state(RunState state);
  void on_failure(const std::string& disk, const IoFailure& failure);
  void drop_free_pages(const Machine& machine);
  void on_balloon_state(const BalloonState& state);
  void tell(const MonitorEvent& event) const;

  BalloonControl& monitored_balloon() { return balloon_.of(BalloonHub::User::monitor); }
  const BalloonControl& monitored_balloon() const { return balloon_.of(BalloonHub::User::monitor); }

  /// What can be set while it runs, and is not the balloon's own.
  struct Settings {
    RunState state = RunState::running;
    bool merging = false;
    std::vector<bool> links;  ///< of its network devices; empty: before the first machine
  };

  const VmmConfig config_;
  std::shared_ptr<GuestAssets> assets_;
  bool restored_ = false;  ///< from the snapshot that the options name
  /// Held by who stops or saves the machine, or takes it away, for as long as that takes. Who only asks for
  /// something, or for its state, never waits for it. Lock order: this, merging_mutex_, mutex_.
  std::mutex operation_;
  std::atomic<bool> stop_waits_ = false;  ///< for whoever has it; he sees to it afterwards
  /// Of settings_.merging. Held while the kernel takes merged pages apart, which is long.
  mutable Mutex merging_mutex_;
  mutable Mutex mutex_;  ///< of machine_ (which changes with all three held) and what follows
  Machine* machine_ = nullptr;
  Settings settings_;
  std::vector<ImageInfo> images_ GUARDED_BY(mutex_);  ///< of the newest machine's disks
  std::function<void(bool)> on_pause_ GUARDED_BY(mutex_);
  bool quit_ GUARDED_BY(mutex_) = false;
  NoBalloon no_balloon_;  ///< used where the guest has none
  // Lock order: mutex_, then the balloon's, then these.
  BalloonHub balloon_;
  mutable Mutex stats_mutex_;
  Bytes last_actual_ GUARDED_BY(stats_mutex_);
  std::optional<BalloonStats> last_stats_ GUARDED_BY(stats_mutex_);
  mutable Mutex disks_mutex_;
  std::vector<const BlockControl*> disks_ GUARDED_BY(disks_mutex_);  ///< of machine_
  mutable Mutex listener_mutex_;
  std::function<void(const MonitorEvent&)> on_event_ GUARDED_BY(listener_mutex_);
  UniqueFd wants_stop_;
};

}  // namespace balloon::vmm
