// SPDX-License-Identifier: Apache-2.0
// The monitor's commands, carried out on the machine that lives at the moment. Lives as long as the process.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "vmm/machine/config.h"
#include "vmm/machine/config_identity.h"
#include "vmm/machine/machine.h"
#include "vmm/monitor/guest.h"

namespace balloon::vmm {

class GuestControl final : public MonitorGuest {
 public:
  /// Fails only when the process is out of file descriptors.
  static Result<std::unique_ptr<GuestControl>> create(const VmmConfig& config);

  /// The machine to command, which has not been started yet; nullptr before it is destroyed: when this
  /// returns no call into it is under way. A guest that a client stopped stays stopped through a reset, as in
  /// QEMU.
  Result<void> attach(Machine* machine);
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
  explicit GuestControl(const VmmConfig& config);
  /// Has operation_; lets go of it.
  class Operation {
   public:
    explicit Operation(GuestControl& control) : control_(control) { control_.operation_.lock(); }
    ~Operation();
    Operation(const Operation&) = delete;
    Operation& operator=(const Operation&) = delete;

   private:
    GuestControl& control_;
  };
  void want_stop() const;
  void set_state(RunState state);
  void on_failure(const std::string& disk, const IoFailure& failure);
  void drop_free_pages(Machine& machine);
  void on_balloon_state(const BalloonState& state);
  void tell(const MonitorEvent& event) const;

  const VmmConfig config_;
  /// Held by who stops or saves the machine, or takes it away, for as long as that takes. Who only asks for
  /// something, or for its state, never waits for it. Lock order: this, then mutex_.
  std::mutex operation_;
  std::atomic<bool> stop_waits_ = false;  ///< for whoever has it; he sees to it afterwards
  mutable std::mutex mutex_;  ///< of machine_ (which changes with both held) and what a next machine inherits
  Machine* machine_ = nullptr;
  std::vector<ImageInfo> images_;  ///< of the newest machine's disks
  std::vector<bool> links_;        ///< of its network devices: a cable that was pulled stays so
  RunState state_ = RunState::running;
  std::function<void(bool)> on_pause_;
  bool quit_ = false;
  std::chrono::seconds stats_interval_{0};
  // Lock order: mutex_, then the balloon's, then these.
  mutable std::mutex balloon_mutex_;
  BalloonState last_state_;
  std::optional<BalloonStats> last_stats_;
  mutable std::mutex listener_mutex_;
  std::function<void(const MonitorEvent&)> on_event_;
  UniqueFd wants_stop_;
};

}  // namespace balloon::vmm
