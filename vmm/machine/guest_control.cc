// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/guest_control.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <future>
#include <memory>
#include <utility>

namespace balloon::vmm {
namespace {

/// A round of free page hinting takes a guest of some GiB a second or two.
constexpr std::chrono::seconds kHintingPatience{10};

std::unexpected<Error> between_machines() { return fail("the guest is being reset: try again"); }

bool holds_failed(const Machine& machine) {
  return std::ranges::any_of(machine.disks(), &BlockControl::holds_failed);
}

}  // namespace

GuestControl::GuestControl(const VmmConfig& config) : config_(config) {
  last_state_.actual = last_state_.target = config.memory;
}

Result<std::unique_ptr<GuestControl>> GuestControl::create(const VmmConfig& config) {
  std::unique_ptr<GuestControl> control(new GuestControl(config));
  control->wants_stop_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!control->wants_stop_) return fail_errno("making an eventfd", errno);
  return control;
}

Result<void> GuestControl::attach(Machine* machine) {
  const Operation operation(*this);
  const std::lock_guard lock(mutex_);
  if (machine_ != nullptr) {
    machine_->balloon(BalloonHub::User::monitor).observe({}, {});
    for (BlockControl* const disk : machine_->disks()) disk->observe({});
  }
  machine_ = nullptr;
  if (machine == nullptr) return {};
  if (quit_) machine->end(Ending::quit, "quit by the monitor");
  if (state_ != RunState::running) BALLOON_TRY(machine->pause());
  machine_ = machine;
  images_.clear();
  const std::vector<std::string> names = disk_names(config_);
  for (std::size_t i = 0; i < names.size(); ++i) {
    BlockControl* const disk = machine_->disks()[i];
    images_.push_back(disk->image());
    disk->observe([this, name = names[i]](const IoFailure& failure) { on_failure(name, failure); });
  }
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

void GuestControl::observe_pause(std::function<void(bool paused)> on_pause) {
  const std::lock_guard lock(mutex_);
  on_pause_ = std::move(on_pause);
  if (on_pause_ && state_ != RunState::running) on_pause_(true);
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
  const std::vector<std::string> names = disk_names(config_);
  std::vector<MonitorDisk> disks;
  for (std::size_t i = 0; i < images_.size(); ++i) {
    const BlockConfig& disk = config_.disks[i];
    disks.push_back({.name = names[i],
                     .image = machine_ != nullptr ? machine_->disks()[i]->image() : images_[i],
                     .read_only = disk.read_only,
                     .writeback = disk.cache != BlockCache::writethrough,
                     .direct = disk.cache == BlockCache::none,
                     .bytes_per_second = disk.bytes_per_second,
                     .requests_per_second = disk.requests_per_second,
                     .counters = machine_ != nullptr ? machine_->disks()[i]->counters() : BlockCounters{},
                     .status = machine_ != nullptr ? machine_->disks()[i]->status() : IoStatus::ok});
  }
  return disks;
}

RunState GuestControl::run_state() const {
  const std::lock_guard lock(mutex_);
  return state_;
}

std::vector<pid_t> GuestControl::vcpu_threads() const {
  const std::lock_guard lock(mutex_);
  return machine_ != nullptr ? machine_->vcpu_threads() : std::vector<pid_t>{};
}

Result<void> GuestControl::stop() {
  const Operation operation(*this);
  if (run_state() != RunState::running) return {};
  if (machine_ != nullptr) BALLOON_TRY(machine_->pause());
  set_state(RunState::paused);
  tell({.kind = MonitorEvent::Kind::stop});
  return {};
}

void GuestControl::set_state(RunState state) {
  const std::lock_guard lock(mutex_);
  state_ = state;
  if (on_pause_) on_pause_(state != RunState::running);
}

void GuestControl::on_failure(const std::string& disk, const IoFailure& failure) {
  tell({.kind = MonitorEvent::Kind::io_error, .device = disk, .failure = failure});
  if (failure.action == IoFailure::Action::stop) want_stop();
}

GuestControl::Operation::~Operation() {
  control_.operation_.unlock();
  if (control_.stop_waits_.exchange(false)) control_.want_stop();
}

void GuestControl::want_stop() const {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(wants_stop_.get(), &one, sizeof one);
}

Result<void> GuestControl::stop_for_disk() {
  std::uint64_t count = 0;
  [[maybe_unused]] const auto drained = ::read(wants_stop_.get(), &count, sizeof count);
  stop_waits_ = true;  // before the try: who has it now looks afterwards
  const std::unique_lock operation(operation_, std::try_to_lock);
  if (!operation) return {};
  stop_waits_ = false;
  // Meanwhile a client may have stopped the guest, or told it to go on, and there is another machine.
  if (machine_ == nullptr || run_state() != RunState::running || !holds_failed(*machine_)) return {};
  BALLOON_TRY(machine_->pause());
  set_state(RunState::io_error);
  tell({.kind = MonitorEvent::Kind::stop});
  return {};
}

Result<void> GuestControl::cont() {
  const Operation operation(*this);
  if (machine_ != nullptr) {
    for (BlockControl* const disk : machine_->disks()) disk->go_on_after_failure();
  }
  if (run_state() == RunState::running) return {};
  if (machine_ != nullptr) BALLOON_TRY(machine_->resume());
  set_state(RunState::running);
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
  const Operation operation(*this);
  if (machine_ == nullptr) return between_machines();
  const RunState before = run_state();
  if (before == RunState::running) {
    drop_free_pages(*machine_);
    set_state(RunState::saving);
  }
  auto saved = machine_->pause();
  if (saved) saved = machine_->save(path);
  if (before != RunState::running) return saved;
  const auto resumed = machine_->resume();
  set_state(RunState::running);
  return saved ? resumed : saved;
}

/// Pages that the guest has free need not be in the file. A guest that does not answer costs room, no more.
void GuestControl::drop_free_pages(Machine& machine) {
  BalloonControl& balloon = machine.balloon(BalloonHub::User::monitor);
  if (!balloon.state().free_page_hinting) return;
  // Shared: the answer may come after the wait is over.
  const auto answered = std::make_shared<std::promise<void>>();
  auto done = answered->get_future();
  balloon.drop_free_pages([answered](const Result<Bytes>&) { answered->set_value(); });
  constexpr std::chrono::milliseconds kLook{50};
  for (auto waited = kLook * 0; waited < kHintingPatience && !machine.outcome().get(); waited += kLook) {
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
