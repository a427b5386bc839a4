// SPDX-License-Identifier: Apache-2.0
#include "balloond/control/loop.h"

#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/log.h"
#include "policy/urgency.h"

namespace balloon::daemon {
namespace {

using std::chrono::nanoseconds;

/// Events that come in bursts: balloons moving, statistics.
using policy::kBurstGap;
/// A rise by less than a fiftieth of its use is its kernel's own to and fro.
constexpr unsigned kRisePart = 50;
/// Events that are rare (a guest joins or leaves, a pin) wait this long, so that nobody can make the loop
/// spin.
constexpr nanoseconds kRareGap = std::chrono::milliseconds(10);
/// A guest that is short of memory is looked at ten times a second for three seconds, and then with the
/// others: what that did not mend is not mended by more. A person or scheduler gets an answer at once unless
/// there are many.
constexpr Rate kWakesOfEach{.burst = 30, .per_second = 1};
constexpr Rate kWakesOfAll{.burst = 60, .per_second = 10};

/// Without a tick for this many periods the loop counts as stalled.
constexpr int kStallPeriods = 5;

std::string of_process(pid_t process) { return "process " + std::to_string(process); }

}  // namespace

ControlLoop::ControlLoop(const Clock& clock, Ticker& ticker, nanoseconds period, Observe observe)
    : clock_(clock),
      ticker_(ticker),
      observe_(std::move(observe)),
      margin_min_(ticker.policy().tunables.margin_min),
      margin_ratio_(ticker.policy().tunables.margin_ratio),
      last_tick_(clock.now().count()),
      planned_(last_tick_.load()),
      period_(period.count()),
      shares_(kWakesOfEach, kWakesOfAll, TokenBucket::Time(clock.now())) {}

ControlLoop::~ControlLoop() { stop(); }

Result<void> ControlLoop::start(UniqueFd pressure) {
  wakeup_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wakeup_) return fail_errno("cannot make an event descriptor", errno);
  pressure_ = std::move(pressure);
  last_tick_ = planned_ = clock_.now().count();
  thread_ = std::thread([this] { run(); });
  return {};
}

void ControlLoop::stop() {
  stopping_ = true;
  wake(nanoseconds(0));
  if (thread_.joinable()) thread_.join();
}

void ControlLoop::guest_changed(const GuestChange& change) {
  switch (change.kind) {
    case GuestChange::Kind::joined:
    case GuestChange::Kind::left:
      return wake_for(of_process(change.process), kRareGap);
    case GuestChange::Kind::pin:
      return wake_for("pins", kRareGap);
    case GuestChange::Kind::balloon_moved:
      if (grows_wait_) wake(kBurstGap);
      return;
    case GuestChange::Kind::stats: {
      if (change.asked_for) return wake(kBurstGap);  // a decision waits for them
      if (change.use && tells_news(change)) wake_for(of_process(change.process), kBurstGap);
      return;
    }
  }
}

bool ControlLoop::is_urgent(const policy::UseSample& sample) const {
  return policy::is_urgent(sample, margin_min_, margin_ratio_);
}

/// A guest that was short in the sample before, too, and has not risen since, tells nothing new: it waits for
/// the period. On a host that is short for long all guests do, each at its own time.
bool ControlLoop::tells_news(const GuestChange& change) const {
  if (!is_urgent(*change.use)) return false;
  return !change.use_before || !is_urgent(*change.use_before) ||
         change.use->used() > change.use_before->used() + change.use_before->used() / kRisePart;
}

void ControlLoop::reservations_changed() { wake_for("reservations", kRareGap); }

void ControlLoop::set_policy(const policy::rules::PolicyFile& policy, nanoseconds period) {
  margin_min_ = policy.tunables.margin_min;
  margin_ratio_ = policy.tunables.margin_ratio;
  period_ = period.count();
  {
    const MutexLock lock(mutex_);
    new_policy_ = policy;
  }
  wake(kRareGap);
}

bool ControlLoop::stalled() const { return clock_.now() - Time(last_tick_.load()) > stall_after(); }

nanoseconds ControlLoop::stall_after() const { return kStallPeriods * nanoseconds(period_.load()); }

void ControlLoop::run() {
  while (!stopping_) {
    tick();
    wait();
  }
}

void ControlLoop::tick() {
  const Time wanted = begin_tick();
  take_over();
  const Time started = clock_.now();
  ticker_.tick();
  const Time ended = clock_.now();
  grows_wait_ = ticker_.grows_wait();
  plan_next(wanted, ended);
  last_tick_ = ended.count();
  ++ticks_;
  observe_(ended - started, std::max(started - wanted, nanoseconds(0)));
}

/// When it was due. What happens from here on wants another one.
Time ControlLoop::begin_tick() {
  const Time wanted = due();
  const MutexLock lock(mutex_);
  woken_.reset();
  return wanted;
}

/// A period after this tick was wanted, not after it ended: ticks that take their time do not make it longer.
/// Whole periods that were missed are not made up for.
void ControlLoop::plan_next(Time wanted, Time ended) {
  const nanoseconds period(period_.load());
  const Time next = wanted + period;
  planned_ = (next > ended ? next : next + ((ended - next) / period + 1) * period).count();
}

void ControlLoop::take_over() {
  std::optional<policy::rules::PolicyFile> policy;
  {
    const MutexLock lock(mutex_);
    policy.swap(new_policy_);
  }
  if (policy) ticker_.set_policy(*policy);
}

/// Until the next tick is due.
void ControlLoop::wait() {
  while (!stopping_) {
    const nanoseconds left = due() - clock_.now();
    if (left <= nanoseconds(0)) break;
    const timespec timeout{.tv_sec = static_cast<time_t>(left.count() / 1'000'000'000),
                           .tv_nsec = static_cast<long>(left.count() % 1'000'000'000)};
    std::array<pollfd, 2> waits{{{.fd = wakeup_.get(), .events = POLLIN, .revents = 0},
                                 {.fd = pressure_ ? pressure_.get() : -1, .events = POLLPRI, .revents = 0}}};
    if (::ppoll(waits.data(), waits.size(), &timeout, nullptr) < 0) continue;
    if ((waits[0].revents & POLLIN) != 0) {
      std::uint64_t count = 0;
      [[maybe_unused]] const ssize_t drained = ::read(wakeup_.get(), &count, sizeof count);
    }
    if ((waits[1].revents & POLLERR) != 0) {
      log::warning("the host's pressure trigger is gone: going on without it");
      pressure_.reset();
    } else if ((waits[1].revents & POLLPRI) != 0) {
      wake(kBurstGap);
    }
  }
}

Time ControlLoop::due() const {
  const MutexLock lock(mutex_);
  const Time planned(planned_.load());
  return woken_ ? std::min(std::max(Time(last_tick_.load()) + woken_->gap, woken_->at), planned) : planned;
}

void ControlLoop::wake_for(const std::string& source, nanoseconds gap) {
  {
    const MutexLock lock(mutex_);
    if (woken_ && woken_->gap <= gap) return;
    std::uint64_t refused = 0;
    if (!shares_.take(source, TokenBucket::Time(clock_.now()), refused)) return;
  }
  wake(gap);
}

void ControlLoop::wake(nanoseconds gap) {
  {
    const MutexLock lock(mutex_);
    if (woken_ && woken_->gap <= gap) return;
    woken_ = {.gap = gap, .at = clock_.now()};
  }
  if (!wakeup_) return;
  constexpr std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wakeup_.get(), &one, sizeof one);
}

}  // namespace balloon::daemon
