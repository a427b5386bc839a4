#include "vmm/machine/guest_control.h"

#include <future>
#include <memory>
#include <utility>

namespace balloon::vmm {
namespace {

/// A round of free page hinting takes a guest of some GiB a second or two.
constexpr std::chrono::seconds kHintingPatience{10};

std::unexpected<Error> between_machines() { return fail("the guest is being reset: try again"); }

}  // namespace

GuestControl::GuestControl(const VmmConfig& config) : config_(config) {
  last_state_.actual = last_state_.target = config.memory;
}

Result<void> GuestControl::attach(Machine* machine) {
  const std::lock_guard lock(mutex_);
  if (machine_ != nullptr) machine_->balloon(BalloonHub::User::monitor).observe({}, {});
  machine_ = nullptr;
  if (machine == nullptr) return {};
  if (quit_) machine->end(Ending::quit, "quit by the monitor");
  if (stopped_) BALLOON_TRY(machine->pause());
  machine_ = machine;
  images_.clear();
  for (const BlockControl* const disk : machine_->disks()) images_.push_back(disk->image());
  // The first machine's are those of the options or of the snapshot; each next one inherits them.
  if (links_.empty()) {
    for (const NetControl* const net : machine_->nets()) links_.push_back(net->state().link);
  }
  for (std::size_t i = 0; i < links_.size(); ++i) machine_->nets()[i]->set_link(links_[i]);
  BalloonControl& balloon = machine_->balloon(BalloonHub::User::monitor);
  {
    const std::lock_guard balloon_lock(balloon_mutex_);
    last_stats_.reset();
  }
  balloon.observe(
      [this](const BalloonStats& stats) {
        const std::lock_guard balloon_lock(balloon_mutex_);
        last_stats_ = stats;
      },
      [this](const BalloonState& state) { on_balloon_state(state); });
  balloon.set_stats_interval(stats_interval_);
  on_balloon_state(balloon.state());
  return {};
}

void GuestControl::tell_end(const std::optional<Outcome>& outcome, bool final) {
  using Kind = MonitorEvent::Kind;
  if (!outcome) return tell({.kind = Kind::shutdown, .by_guest = false, .reason = "host-signal"});
  const bool reset = outcome->ending == Ending::reboot;
  const char* reason = "host-error";
  if (outcome->ending == Ending::quit) reason = "host-qmp-quit";
  if (outcome->ending == Ending::power_off) reason = "guest-shutdown";
  if (reset) reason = outcome->by_guest ? "guest-reset" : "host-qmp-system-reset";
  tell({.kind = reset && !final ? Kind::reset : Kind::shutdown,
        .by_guest = outcome->by_guest,
        .reason = reason});
}

std::vector<MonitorDisk> GuestControl::disks() const {
  const std::lock_guard lock(mutex_);
  std::vector<MonitorDisk> disks;
  for (std::size_t i = 0; i < images_.size(); ++i) {
    const BlockConfig& disk = config_.disks[i];
    disks.push_back({.image = machine_ != nullptr ? machine_->disks()[i]->image() : images_[i],
                     .read_only = disk.read_only,
                     .writeback = disk.cache != BlockCache::writethrough,
                     .direct = disk.cache == BlockCache::none,
                     .bytes_per_second = disk.bytes_per_second,
                     .requests_per_second = disk.requests_per_second,
                     .counters = machine_ != nullptr ? machine_->disks()[i]->counters() : BlockCounters{}});
  }
  return disks;
}

RunState GuestControl::run_state() const {
  const std::lock_guard lock(mutex_);
  return stopped_ ? RunState::paused : RunState::running;
}

std::vector<pid_t> GuestControl::vcpu_threads() const {
  const std::lock_guard lock(mutex_);
  return machine_ != nullptr ? machine_->vcpu_threads() : std::vector<pid_t>{};
}

Result<void> GuestControl::stop() {
  const std::lock_guard lock(mutex_);
  if (stopped_) return {};
  if (machine_ != nullptr) BALLOON_TRY(machine_->pause());
  stopped_ = true;
  tell({.kind = MonitorEvent::Kind::stop});
  return {};
}

Result<void> GuestControl::cont() {
  const std::lock_guard lock(mutex_);
  if (!stopped_) return {};
  if (machine_ != nullptr) BALLOON_TRY(machine_->resume());
  stopped_ = false;
  tell({.kind = MonitorEvent::Kind::resume});
  return {};
}

Result<void> GuestControl::power_button() {
  const std::lock_guard lock(mutex_);
  if (machine_ == nullptr) return between_machines();
  BALLOON_TRY(machine_->press_power_button());
  tell({.kind = MonitorEvent::Kind::powerdown});
  return {};
}

Result<void> GuestControl::reset() {
  const std::lock_guard lock(mutex_);
  if (machine_ == nullptr) return between_machines();
  machine_->end(Ending::reboot, "reset by the monitor");
  return {};
}

void GuestControl::quit() {
  const std::lock_guard lock(mutex_);
  quit_ = true;
  if (machine_ != nullptr) machine_->end(Ending::quit, "quit by the monitor");
}

Result<void> GuestControl::set_link(std::size_t net, bool up) {
  const std::lock_guard lock(mutex_);
  links_.at(net) = up;
  if (machine_ != nullptr) machine_->nets()[net]->set_link(up);
  return {};
}

Result<void> GuestControl::save_snapshot(const std::string& path) {
  const std::lock_guard lock(mutex_);
  if (machine_ == nullptr) return between_machines();
  if (!stopped_) drop_free_pages();
  BALLOON_TRY(machine_->pause());
  const auto saved = machine_->save(path);
  if (!stopped_) BALLOON_TRY(machine_->resume());
  return saved;
}

/// Pages that the guest has free need not be in the file. A guest that does not answer costs room, no more.
void GuestControl::drop_free_pages() {
  BalloonControl& balloon = machine_->balloon(BalloonHub::User::monitor);
  if (!balloon.state().free_page_hinting) return;
  // Shared: the answer may come after the wait is over.
  const auto answered = std::make_shared<std::promise<void>>();
  auto done = answered->get_future();
  balloon.drop_free_pages([answered](const Result<Bytes>&) { answered->set_value(); });
  constexpr std::chrono::milliseconds kLook{50};
  for (auto waited = kLook * 0; waited < kHintingPatience && !machine_->outcome().get(); waited += kLook) {
    if (done.wait_for(kLook) == std::future_status::ready) return;
  }
}

BalloonState GuestControl::balloon() const {
  const std::lock_guard lock(mutex_);
  if (machine_ != nullptr) return machine_->balloon(BalloonHub::User::monitor).state();
  const std::lock_guard balloon_lock(balloon_mutex_);
  return last_state_;
}

Result<void> GuestControl::set_balloon(Bytes target) {
  const std::lock_guard lock(mutex_);
  if (machine_ == nullptr) return between_machines();
  return machine_->balloon(BalloonHub::User::monitor).set_target(target);
}

std::optional<BalloonStats> GuestControl::stats() const {
  const std::lock_guard lock(balloon_mutex_);
  return last_stats_;
}

void GuestControl::set_stats_interval(std::chrono::seconds interval) {
  const std::lock_guard lock(mutex_);
  stats_interval_ = interval;
  if (machine_ != nullptr) machine_->balloon(BalloonHub::User::monitor).set_stats_interval(interval);
}

void GuestControl::listen(std::function<void(const MonitorEvent&)> on_event) {
  const std::lock_guard lock(listener_mutex_);
  on_event_ = std::move(on_event);
}

void GuestControl::on_balloon_state(const BalloonState& state) {
  {
    const std::lock_guard lock(balloon_mutex_);
    if (std::exchange(last_state_, state).actual == state.actual) return;
  }
  tell({.kind = MonitorEvent::Kind::balloon_change, .actual = state.actual});
}

void GuestControl::tell(const MonitorEvent& event) const {
  const std::lock_guard lock(listener_mutex_);
  if (on_event_) on_event_(event);
}

}  // namespace balloon::vmm
