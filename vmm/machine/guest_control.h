// The monitor's commands, carried out on the machine that lives at the moment. Lives as long as the process.
#pragma once

#include <mutex>
#include <optional>

#include "vmm/machine/config.h"
#include "vmm/machine/machine.h"
#include "vmm/monitor/guest.h"

namespace balloon::vmm {

class GuestControl final : public MonitorGuest {
 public:
  explicit GuestControl(const VmmConfig& config);

  /// The machine to command, which has not been started yet; nullptr before it is destroyed: when this
  /// returns no call into it is under way. A guest that a client stopped stays stopped through a reset, as in
  /// QEMU.
  Result<void> attach(Machine* machine);
  /// Tells clients how a machine ended. `final`: no other follows.
  void tell_end(const std::optional<Outcome>& outcome, bool final);

  std::string name() const override { return config_.name; }
  Bytes memory() const override { return config_.memory; }
  std::vector<MonitorDisk> disks() const override;
  std::size_t nets() const override { return config_.nets.size(); }
  RunState run_state() const override;
  std::vector<pid_t> vcpu_threads() const override;
  Result<void> stop() override;
  Result<void> cont() override;
  Result<void> power_button() override;
  Result<void> reset() override;
  void quit() override;
  Result<void> set_link(std::size_t net, bool up) override;
  Result<void> save_snapshot(const std::string& path) override;
  BalloonState balloon() const override;
  bool balloon_offers_deflate_on_oom() const override { return config_.balloon.deflate_on_oom; }
  bool balloon_offers_free_page_reporting() const override { return config_.balloon.free_page_reporting; }
  Result<void> set_balloon(Bytes target) override;
  std::optional<BalloonStats> stats() const override;
  void set_stats_interval(std::chrono::seconds interval) override;
  void listen(std::function<void(const MonitorEvent&)> on_event) override;

 private:
  void drop_free_pages();
  void on_balloon_state(const BalloonState& state);
  void tell(const MonitorEvent& event) const;

  const VmmConfig config_;
  mutable std::mutex mutex_;  ///< of machine_ and what a next machine inherits
  Machine* machine_ = nullptr;
  std::vector<ImageInfo> images_;  ///< of the newest machine's disks
  std::vector<bool> links_;        ///< of its network devices: a cable that was pulled stays so
  bool stopped_ = false;
  bool quit_ = false;
  std::chrono::seconds stats_interval_{0};
  // Lock order: mutex_, then the balloon's, then these.
  mutable std::mutex balloon_mutex_;
  BalloonState last_state_;
  std::optional<BalloonStats> last_stats_;
  mutable std::mutex listener_mutex_;
  std::function<void(const MonitorEvent&)> on_event_;
};

}  // namespace balloon::vmm
