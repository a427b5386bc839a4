// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/supervisor.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <memory>
#include <optional>
#include <utility>

#include "base/log.h"
#include "base/unique_fd.h"
#include "vmm/link/guest_link.h"
#include "vmm/machine/guest.h"
#include "vmm/machine/machine.h"
#include "vmm/monitor/monitor.h"
#include "vmm/virtio/rate_limit.h"

namespace balloon::vmm {
namespace {

sigset_t ending_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGPWR);
  return signals;
}

/// Waits for the machine's end; nothing: a signal asks the process to end.
/// SIGPWR presses the power button: what a service manager sends, which waits, and knows no monitor.
/// `is_to_end` says so from then on.
Result<std::optional<Outcome>> wait_for_end(const Machine& machine, Guest& guest, int signals,
                                            bool& is_to_end) {
  std::array<pollfd, 3> polls{{{.fd = machine.outcome().fd(), .events = POLLIN, .revents = 0},
                               {.fd = signals, .events = POLLIN, .revents = 0},
                               {.fd = guest.wants_stop_fd(), .events = POLLIN, .revents = 0}}};
  while (true) {
    if (::poll(polls.data(), polls.size(), -1) < 0 && errno != EINTR)
      return fail_errno("waiting for the guest", errno);
    if (auto outcome = machine.outcome().get()) return outcome;
    if ((polls[2].revents & POLLIN) != 0) BALLOON_TRY(guest.stop_for_disk());
    if ((polls[1].revents & POLLIN) != 0) {
      signalfd_siginfo signal{};
      if (::read(signals, &signal, sizeof(signal)) == sizeof(signal)) {
        if (signal.ssi_signo == SIGPWR && guest.power_button()) {
          log::info("the guest's power button is pressed");
          is_to_end = true;
          continue;
        }
        log::info("signal {}: ending the guest", signal.ssi_signo);
        return std::nullopt;
      }
    }
  }
}

/// Who speaks of the guest to the outside. They start with the first machine that could be built: a guest
/// that cannot start neither registers nor has a monitor, and a client's first question finds its balloon as
/// it is.
struct Speakers {
  std::unique_ptr<GuestLink> link;
  std::unique_ptr<Monitor>
      monitor;  ///< ends before the link, which hears of the stops that its clients ask for
};

Result<void> start_link(Guest& guest, std::unique_ptr<GuestLink>& link) {
  const VmmConfig& config = guest.config();
  auto started = GuestLink::start({.socket = config.link,
                                   .name = config.name,
                                   .labels = config.labels,
                                   .memory = config.memory,
                                   .vcpus = config.cpus},
                                  {.balloon = guest.linked_balloon(),
                                   .merging = [&guest] { return guest.merging(); },
                                   .set_merging = [&guest](bool on) { return guest.set_merging(on); },
                                   .disk_read = [&guest] { return guest.disk_read(); }});
  if (!started) return std::unexpected(started.error());
  link = std::move(*started);
  guest.observe_pause([link = link.get()](bool paused) { link->set_paused(paused); });
  return {};
}

Result<void> start_speakers(Guest& guest, Speakers& speakers) {
  const VmmConfig& config = guest.config();
  if (!speakers.link && !config.link.empty()) BALLOON_TRY(start_link(guest, speakers.link));
  if (speakers.monitor || config.monitor.empty()) return {};
  auto monitor = Monitor::start(config.monitor, guest);
  if (!monitor) return std::unexpected(monitor.error());
  speakers.monitor = std::move(*monitor);
  return {};
}

/// Slows a guest down that does nothing but reboot: each costs the host a start, and lines in the log.
class RebootPace {
 public:
  using Clock = std::chrono::steady_clock;
  /// A life that is shorter is no use of the machine: not even firmware boots so fast.
  static constexpr std::chrono::seconds kShortLife{1};
  /// A loader, or a guest that resets itself once or twice on purpose, is not slowed down.
  static constexpr int kFree = 20;
  static constexpr std::chrono::milliseconds kPause{250};

  void begins() { born_ = Clock::now(); }
  /// How long the next life has to wait. A client of the monitor knows what it wants: it is not slowed down.
  std::chrono::milliseconds ended(bool by_guest) {
    short_lives_ = Clock::now() - born_ < kShortLife ? short_lives_ + 1 : 0;
    return by_guest && short_lives_ > kFree ? kPause : std::chrono::milliseconds(0);
  }
  /// Whether to say that it reboots: each time, but not of a guest that does nothing else.
  bool worth_a_line() { return short_lives_ <= kFree || lines_.happened().has_value(); }

 private:
  Clock::time_point born_{};
  int short_lives_ = 0;
  RateLimit lines_;
};

/// Waits, but not for longer than until a signal asks the process to end: then false.
bool wait_unless_ended(std::chrono::milliseconds time, int signals) {
  pollfd ended{.fd = signals, .events = POLLIN, .revents = 0};
  return ::poll(&ended, 1, static_cast<int>(time.count())) <= 0;
}

/// Whatever the way out is, the guest lets go of its machine before that is destroyed.
struct Attached {
  Guest& guest;
  ~Attached() { guest.detach(); }
};

/// One machine from its building to its destruction.
Result<std::optional<Outcome>> live_once(Guest& guest, const MachineHost& host, Speakers& speakers,
                                         int signals, bool& is_to_end, bool tell,
                                         const std::function<Result<void>()>& on_running) {
  const VmmConfig& config = guest.config();
  const auto machine = guest.make_machine(host);
  if (!machine) return fail(fmt::format("starting guest '{}'", config.name), machine.error());
  BALLOON_TRY(guest.attach(**machine));
  const Attached attached{guest};
  BALLOON_TRY(start_speakers(guest, speakers));
  (*machine)->start();
  if (tell) {
    log::info("guest '{}' runs: {} of memory, {} vCPUs", config.name, format_bytes(config.memory),
              config.cpus);
  }
  if (on_running) BALLOON_TRY(on_running());
  auto outcome = wait_for_end(**machine, guest, signals, is_to_end);
  // Whatever is under way for it (a snapshot is being written, say) need not be waited for.
  (*machine)->end(Ending::quit, "a signal");
  return outcome;
}

}  // namespace

void block_ending_signals() {
  const sigset_t signals = ending_signals();
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  // A closed pipe or socket shows as an error of the write.
  std::signal(SIGPIPE, SIG_IGN);
}

Result<void> run_vmm(const VmmConfig& config, const std::function<Result<void>()>& on_running) {
  const sigset_t ending = ending_signals();
  const UniqueFd signals(::signalfd(-1, &ending, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals) return fail_errno("making a signalfd", errno);
  const auto kvm = Kvm::open();
  if (!kvm) return std::unexpected(kvm.error());
  const auto loop = EventLoop::create("main-loop");
  if (!loop) return std::unexpected(loop.error());
  const auto serial = SerialBackend::create(config.serial, **loop);
  if (!serial) return std::unexpected(serial.error());
  std::unique_ptr<SerialBackend> console;
  if (config.console.kind != SerialConfig::Kind::none) {
    auto made = SerialBackend::create(config.console, **loop);
    if (!made) return std::unexpected(made.error());
    console = std::move(*made);
  }

  const auto guest = Guest::open(config);
  if (!guest) return fail(fmt::format("starting guest '{}'", config.name), guest.error());
  Speakers speakers;
  RebootPace pace;
  bool tell = true;
  bool first = true;
  bool is_to_end = false;  // it may reset instead, as one does that crashes; its next life knows of no button
  while (true) {
    pace.begins();
    const auto outcome =
        live_once(**guest, {.kvm = *kvm, .loop = **loop, .serial = **serial, .console = console.get()},
                  speakers, signals.get(), is_to_end, tell,
                  std::exchange(first, false) ? on_running : std::function<Result<void>()>{});
    if (!outcome) return std::unexpected(outcome.error());
    const bool goes_on = *outcome && (*outcome)->ending == Ending::reboot && config.reboot && !is_to_end;
    (*guest)->tell_end(*outcome, !goes_on);
    if (!*outcome) return {};
    switch ((*outcome)->ending) {
      case Ending::power_off:
        log::info("guest '{}' powered off", config.name);
        return {};
      case Ending::quit:
        log::info("guest '{}' was ended by the monitor", config.name);
        return {};
      case Ending::failed:
        return fail(fmt::format("guest '{}' failed", config.name), Error{(*outcome)->why});
      case Ending::reboot: {
        if (is_to_end) {
          log::info("guest '{}' was reset after its power button was pressed, so it ends ({})", config.name,
                    (*outcome)->why);
          return {};
        }
        const auto pause = pace.ended((*outcome)->by_guest);
        tell = pace.worth_a_line();
        if (tell) {
          log::info("guest '{}' reboots ({}){}", config.name, (*outcome)->why,
                    pause.count() > 0 ? ", again and again: it waits a moment each time" : "");
        }
        if (!config.reboot) return {};
        if (!wait_unless_ended(pause, signals.get()))
          return (*guest)->tell_end(std::nullopt, true), Result<void>{};
        break;
      }
    }
  }
}

}  // namespace balloon::vmm
