// SPDX-License-Identifier: Apache-2.0
#include "balloond/daemon.h"

#include <sys/stat.h>

#include <filesystem>

#include "balloond/host/pressure_trigger.h"
#include "base/bytes.h"
#include "base/log.h"

namespace balloon::daemon {
namespace {

constexpr mode_t kOthersMayConnect = S_IWOTH;  // unix(7): to connect takes write permission

Result<Entrance> open_entrance(const DaemonConfig& config) {
  auto access = Access::of(config.access);
  if (!access) return std::unexpected(access.error());
  auto socket = UnixSocket::listen(config.socket_path, config.socket_mode, config.socket_group);
  if (!socket) return std::unexpected(socket.error());
  Entrance entrance{.socket = std::move(*socket), .read_socket = std::nullopt, .access = std::move(*access)};
  if (config.read_socket.path.empty()) return entrance;
  auto read = UnixSocket::listen(config.read_socket.path, config.read_socket.mode, config.read_socket.group);
  if (!read) return std::unexpected(read.error());
  entrance.read_socket.emplace(std::move(*read));
  return entrance;
}

}  // namespace

Result<std::unique_ptr<Daemon>> Daemon::start(std::string config_path, Config config, bool dry_run) {
  config.daemon.dry_run |= dry_run;
  auto entrance = open_entrance(config.daemon);
  if (!entrance) return std::unexpected(entrance.error());
  auto daemon = std::unique_ptr<Daemon>(
      new Daemon(std::move(config_path), std::move(config), dry_run, std::move(*entrance)));
  BALLOON_TRY(daemon->start_parts());
  return daemon;
}

Daemon::Daemon(std::string config_path, Config config, bool dry_run, Entrance entrance)
    : config_path_(std::move(config_path)),
      dry_run_(dry_run),
      config_(std::move(config)),
      guests_(clock_),
      journal_(config_.daemon.journal.directory.empty()
                   ? nullptr
                   : std::make_unique<Journal>(clock_, config_.daemon.journal)),
      reservations_(clock_),
      ticker_(clock_, guests_, host_, states_, config_.policy, journal_.get(), &reservations_, &ksm_,
              &control_),
      needs_(clock_),
      need_keeper_(clock_, needs_, config_.daemon.needs_directory),
      loop_(clock_, ticker_, config_.daemon.period,
            [this](std::chrono::nanoseconds duration, std::chrono::nanoseconds lateness) {
              collector_.observe_tick(duration, lateness);
              needs_.observe(*states_.newest());
            }),
      qmp_(clock_, guests_),
      libvirt_(clock_, guests_),
      server_(std::move(entrance), clock_, guests_, states_, reservations_, pins_, control_, needs_, calls_,
              [this] { return !loop_.stalled(); }),
      collector_({.clock = clock_,
                  .states = states_,
                  .counters = ticker_.counters(),
                  .journal = journal_ ? &journal_->counters() : nullptr,
                  .reservations = reservations_,
                  .calls = calls_,
                  .guests = guests_,
                  .needs = needs_,
                  .need_keeper = need_keeper_,
                  .backends = {&server_.vmm_link_health(), &qmp_.health(), &libvirt_.health()}}) {
  collector_.set_period(config_.daemon.period);
  control_.set_dry_run(config_.daemon.dry_run);
  guests_.set_stats_interval(config_.daemon.stats_interval);
  guests_.on_change([this](const GuestChange& change) { loop_.guest_changed(change); });
  reservations_.on_change([this] { loop_.reservations_changed(); });
}

Daemon::~Daemon() {
  server_.stop();
  qmp_.stop();
  libvirt_.stop();
  loop_.stop();
  need_keeper_.stop();
  keeper_.reset();  // its last write may still tell the loop
}

/// Before the first decision, which is to count them.
Result<void> Daemon::keep_reservations() {
  if (config_.daemon.reservations_file.empty()) {
    log::info("reservations and pins end with this daemon: no reservations.file is configured");
    return {};
  }
  const std::string pins =
      std::filesystem::path(config_.daemon.reservations_file).parent_path() / "pins.json";
  BALLOON_TRY(pins_.start(PinFile(clock_, pins)));
  auto keeper =
      ReservationKeeper::start(reservations_, ReservationFile(clock_, config_.daemon.reservations_file));
  if (!keeper) return std::unexpected(keeper.error());
  keeper_ = std::move(*keeper);
  return {};
}

Result<void> Daemon::start_parts() {
  BALLOON_TRY(keep_reservations());
  if (!config_.daemon.metrics_listen.empty()) {
    const auto stalled = [this] {
      return loop_.stalled() ? std::string("no decision was made for five periods") : std::string();
    };
    const auto unready = [this, stalled] {
      return states_.newest()->revision == 0 ? std::string("nothing has been decided yet") : stalled();
    };
    auto metrics = MetricsServer::start(config_.daemon.metrics_listen, [this] { return collector_.page(); },
                                        {{"/healthz", stalled}, {"/readyz", unready}});
    if (!metrics) return std::unexpected(metrics.error());
    metrics_.emplace(std::move(*metrics));
  }
  auto pressure = open_pressure_trigger();
  if (!pressure)
    log::warning("no events on host pressure, only the control period: {}", pressure.error().message);
  BALLOON_TRY(loop_.start(pressure ? std::move(*pressure) : UniqueFd()));
  need_keeper_.start();
  BALLOON_TRY(server_.start());
  BALLOON_TRY(qmp_.manage(config_.daemon.qmp, config_.daemon.stats_interval));
  BALLOON_TRY(libvirt_.manage(config_.daemon.libvirt, config_.daemon.stats_interval));
  if ((config_.daemon.socket_mode & kOthersMayConnect) != 0 && !config_.daemon.access.link) {
    log::warning(
        "socket.mode {:04o} lets every user of this host run guests that count: write 0660, and say who may "
        "connect in socket.group, or who may run guests in access.link",
        config_.daemon.socket_mode);
  }
  log::info("serving on {}{}", config_.daemon.socket_path,
            metrics_ ? ", metrics on " + config_.daemon.metrics_listen : std::string());
  return {};
}

void Daemon::reload() {
  const auto memory = host_memory();
  auto config = memory ? load_config(config_path_, *memory) : std::unexpected(memory.error());
  if (const auto there = config ? check_backends(config->daemon) : Result<void>(); !there)
    config = std::unexpected(there.error());
  collector_.note_reload(config.has_value());
  if (!config)
    return log::error("the new configuration is refused, the old one stays:\n{}", config.error().message);
  const DaemonConfig& old = config_.daemon;
  const DaemonConfig& fresh = config->daemon;
  if (old.socket_path != fresh.socket_path || old.socket_mode != fresh.socket_mode ||
      old.socket_group != fresh.socket_group || old.read_socket != fresh.read_socket ||
      old.access != fresh.access || old.metrics_listen != fresh.metrics_listen ||
      old.log_level != fresh.log_level || old.journal != fresh.journal ||
      old.reservations_file != fresh.reservations_file || old.needs_directory != fresh.needs_directory) {
    log::warning(
        "sockets, access, metrics, journal, reservations, needs and log_level are as at the start: a change "
        "of these needs a restart");
  }
  config->daemon.dry_run |= dry_run_;
  config_ = std::move(*config);
  control_.set_dry_run(config_.daemon.dry_run);
  guests_.set_stats_interval(config_.daemon.stats_interval);
  loop_.set_policy(config_.policy, config_.daemon.period);
  collector_.set_period(config_.daemon.period);
  if (const auto managed = qmp_.manage(config_.daemon.qmp, config_.daemon.stats_interval); !managed)
    log::error("guests of QEMU are not managed: {}", managed.error().message);
  if (const auto managed = libvirt_.manage(config_.daemon.libvirt, config_.daemon.stats_interval); !managed)
    log::error("guests of libvirt are not managed: {}", managed.error().message);
  log::info("the new configuration is in force");
}

void Daemon::refresh() { server_.health().refresh(); }

Result<void> check_backends(const DaemonConfig& config) {
  if (!config.libvirt.empty()) BALLOON_TRY(libvirt::load_module());
  return {};
}

Result<Bytes> host_memory() {
  HostSampler host;
  const auto sample = host.sample();
  if (!sample) return std::unexpected(sample.error());
  return sample->memory.total;
}

}  // namespace balloon::daemon
