// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/guest.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <future>
#include <memory>
#include <utility>

#include "base/log.h"

namespace balloon::vmm {
namespace {

/// A round of free page hinting takes a guest of some GiB a second or two.
constexpr std::chrono::seconds kHintingPatience{10};

std::unexpected<Error> between_machines() { return fail("the guest is being reset: try again"); }

bool holds_failed(const Machine& machine) {
  return std::ranges::any_of(machine.disks(), &BlockControl::holds_failed);
}

}  // namespace

Guest::Guest(const VmmConfig& config)
    : config_(config),
      settings_{.merging = config.memory_backing.merge, .links = {}},
      no_balloon_(config.memory),
      balloon_(config.memory),
      last_actual_(config.memory) {
  if (!config_.balloon.enabled) balloon_.attach(no_balloon_);
  monitored_balloon().observe(
      [this](const BalloonStats& stats) {
        const MutexLock lock(stats_mutex_);
        last_stats_ = stats;
      },
      [this](const BalloonState& state) { on_balloon_state(state); });
}

Result<std::unique_ptr<Guest>> Guest::open(const VmmConfig& config) {
  std::unique_ptr<Guest> guest(new Guest(config));
  auto assets = GuestAssets::open(config);
  if (!assets) return std::unexpected(std::move(assets.error()));
  guest->assets_ = std::move(*assets);
  guest->wants_stop_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!guest->wants_stop_) return fail_errno("making an eventfd", errno);
  return guest;
}

Result<std::unique_ptr<Machine>> Guest::make_machine(const MachineHost& host) {
  return Machine::create(config_, host, assets_, std::exchange(restored_, true) ? "" : config_.restore);
}

Result<void> Guest::attach(Machine& machine) {
  const Operation operation(*this);
  const MutexLock merging_lock(merging_mutex_);
  const MutexLock lock(mutex_);
  if (quit_) machine.end(Ending::quit, "quit by the monitor");
  if (settings_.state != RunState::running) BALLOON_TRY(machine.pause());
  machine_ = &machine;
  images_.clear();
  const std::vector<std::string> names = disk_names(config_);
  for (std::size_t i = 0; i < names.size(); ++i) {
    BlockControl* const disk = machine.disks()[i];
    images_.push_back(disk->image());
    disk->observe([this, name = names[i]](const IoFailure& failure) { on_failure(name, failure); });
  }
  {
    const MutexLock disks_lock(disks_mutex_);
    disks_.assign(machine.disks().begin(), machine.disks().end());
  }
  inherit(machine);
  {
    const MutexLock stats_lock(stats_mutex_);
    last_stats_.reset();
  }
  if (config_.balloon.enabled) balloon_.attach(machine.balloon());
  return {};
}

/// The first machine's settings are those of the options or of the snapshot; each next one has them from the
/// guest.
void Guest::inherit(Machine& machine) {
  const auto nets = machine.nets();
  if (settings_.links.empty()) {
    for (std::size_t i = 0; i < nets.size(); ++i) {
      const NetState state = nets[i]->state();
      settings_.links.push_back(state.link);
      assets_->nets[i].mac = state.own_mac;  // a snapshot's addresses are the guest's, too
    }
  }
  for (std::size_t i = 0; i < nets.size(); ++i) nets[i]->set_link(settings_.links[i]);
  if (settings_.merging == machine.merging()) return;
  if (const auto done = machine.set_merging(settings_.merging); !done) {
    log::warning("guest '{}' began anew, and KSM stays as its options say: {}", config_.name,
                 done.error().message);
    settings_.merging = machine.merging();
  }
}

void Guest::detach() {
  const Operation operation(*this);
  const MutexLock merging_lock(merging_mutex_);
  const MutexLock lock(mutex_);
  if (machine_ == nullptr) return;
  if (config_.balloon.enabled) balloon_.detach();
  for (BlockControl* const disk : machine_->disks()) disk->observe({});
  const MutexLock disks_lock(disks_mutex_);
  disks_.clear();
  machine_ = nullptr;
}

bool Guest::merging() const {
  const MutexLock lock(merging_mutex_);
  return settings_.merging;
}

Result<void> Guest::set_merging(bool on) {
  const MutexLock lock(merging_mutex_);
  if (machine_ != nullptr) {
    BALLOON_TRY(machine_->set_merging(on));
  } else {
    MemoryBacking wanted = config_.memory_backing;
    wanted.merge = on;
    BALLOON_TRY(check_backing(wanted, config_.memory));
  }
  settings_.merging = on;
  return {};
}

Bytes Guest::disk_read() const {
  const MutexLock lock(disks_mutex_);
  Bytes read{};
  for (const BlockControl* const disk : disks_) read += disk->counters().read;
  return read;
}

void Guest::observe_pause(std::function<void(bool paused)> on_pause) {
  const MutexLock lock(mutex_);
  on_pause_ = std::move(on_pause);
  if (on_pause_ && settings_.state != RunState::running) on_pause_(true);
}

void Guest::tell_end(const std::optional<Outcome>& outcome, bool final) {
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

std::vector<MonitorDisk> Guest::disks() const {
  const MutexLock lock(mutex_);
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

RunState Guest::run_state() const {
  const MutexLock lock(mutex_);
  return settings_.state;
}

std::vector<pid_t> Guest::vcpu_threads() const {
  const MutexLock lock(mutex_);
  return machine_ != nullptr ? machine_->vcpu_threads() : std::vector<pid_t>{};
}

Result<void> Guest::stop() {
  const Operation operation(*this);
  if (run_state() != RunState::running) return {};
  if (machine_ != nullptr) BALLOON_TRY(machine_->pause());
  set_state(RunState::paused);
  tell({.kind = MonitorEvent::Kind::stop});
  return {};
}

void Guest::set_state(RunState state) {
  const MutexLock lock(mutex_);
  settings_.state = state;
  if (on_pause_) on_pause_(state != RunState::running);
}

void Guest::on_failure(const std::string& disk, const IoFailure& failure) {
  tell({.kind = MonitorEvent::Kind::io_error, .device = disk, .failure = failure});
  if (failure.action == IoFailure::Action::stop) want_stop();
}

Guest::Operation::~Operation() {
  guest_.operation_.unlock();
  if (guest_.stop_waits_.exchange(false)) guest_.want_stop();
}

void Guest::want_stop() const {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(wants_stop_.get(), &one, sizeof one);
}

Result<void> Guest::stop_for_disk() {
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

Result<void> Guest::cont() {
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

Result<void> Guest::power_button() {
  const MutexLock lock(mutex_);
  if (machine_ == nullptr) return between_machines();
  BALLOON_TRY(machine_->press_power_button());
  tell({.kind = MonitorEvent::Kind::powerdown});
  return {};
}

Result<void> Guest::reset() {
  const MutexLock lock(mutex_);
  if (machine_ == nullptr) return between_machines();
  machine_->end(Ending::reboot, "reset by the monitor");
  return {};
}

void Guest::quit() {
  const MutexLock lock(mutex_);
  quit_ = true;
  if (machine_ != nullptr) machine_->end(Ending::quit, "quit by the monitor");
}

Result<void> Guest::set_link(std::size_t net, bool up) {
  const MutexLock lock(mutex_);
  settings_.links.at(net) = up;
  if (machine_ != nullptr) machine_->nets()[net]->set_link(up);
  return {};
}

Result<void> Guest::save_snapshot(const std::string& path) {
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
void Guest::drop_free_pages(const Machine& machine) {
  BalloonControl& balloon = monitored_balloon();
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

BalloonState Guest::balloon() const { return monitored_balloon().state(); }

Result<void> Guest::set_balloon(Bytes target) { return monitored_balloon().set_target(target); }

std::optional<BalloonStats> Guest::stats() const {
  const MutexLock lock(stats_mutex_);
  return last_stats_;
}

void Guest::set_stats_interval(std::chrono::seconds interval) {
  monitored_balloon().set_stats_interval(interval);
}

void Guest::listen(std::function<void(const MonitorEvent&)> on_event) {
  const MutexLock lock(listener_mutex_);
  on_event_ = std::move(on_event);
}

void Guest::on_balloon_state(const BalloonState& state) {
  {
    const MutexLock lock(stats_mutex_);
    if (std::exchange(last_actual_, state.actual) == state.actual) return;
  }
  tell({.kind = MonitorEvent::Kind::balloon_change, .actual = state.actual});
}

void Guest::tell(const MonitorEvent& event) const {
  const MutexLock lock(listener_mutex_);
  if (on_event_) on_event_(event);
}

}  // namespace balloon::vmm
