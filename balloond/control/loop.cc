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
/// A guest that was short in the sample before, too, and has not risen since, tells nothing new. On a host
/// that is short for long all guests do, each at its own time: one decision serves a third of them.
constexpr nanoseconds kStillUrgentGap = std::chrono::milliseconds(400);
/// A rise by less than a fiftieth of its use is its kernel's own to and fro.
constexpr Bytes kRisePart = 50;
/// Events that are rare (a guest joins or leaves, a pin) wait this long, so that nobody can make the loop
/// spin.
constexpr nanoseconds kRareGap = std::chrono::milliseconds(10);
/// Without a tick for this many periods the loop counts as stalled.
constexpr int kStallPeriods = 5;

}  // namespace

ControlLoop::ControlLoop(const Clock& clock, Ticker& ticker, nanoseconds period,
                         std::function<void(nanoseconds)> observe)
    : clock_(clock),
      ticker_(ticker),
      observe_(std::move(observe)),
      margin_min_(ticker.policy().tunables.margin_min),
      margin_ratio_(ticker.policy().tunables.margin_ratio),
      last_tick_(clock.now().count()),
      period_(period.count()) {}

ControlLoop::~ControlLoop() { stop(); }

Result<void> ControlLoop::start(UniqueFd pressure) {
  wakeup_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wakeup_) return fail_errno("cannot make an event descriptor", errno);
  pressure_ = std::move(pressure);
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
    case GuestChange::Kind::pin:
      return wake(kRareGap);
    case GuestChange::Kind::balloon_moved:
      if (grows_wait_) wake(kBurstGap);
      return;
    case GuestChange::Kind::stats: {
      if (change.asked_for) return wake(kBurstGap);  // a decision waits for them
      if (change.use && is_urgent(*change.use)) wake(tells_news(change) ? kBurstGap : kStillUrgentGap);
      return;
    }
  }
}

bool ControlLoop::is_urgent(const policy::UseSample& sample) const {
  return policy::is_urgent(sample, margin_min_, margin_ratio_);
}

bool ControlLoop::tells_news(const GuestChange& change) const {
  return !change.use_before || !is_urgent(*change.use_before) ||
         change.use->used() > change.use_before->used() + change.use_before->used() / kRisePart;
}

void ControlLoop::reservations_changed() { wake(kRareGap); }

void ControlLoop::set_policy(const policy::rules::PolicyFile& policy, nanoseconds period) {
  margin_min_ = policy.tunables.margin_min;
  margin_ratio_ = policy.tunables.margin_ratio;
  period_ = period.count();
  {
    const std::lock_guard lock(mutex_);
    new_policy_ = policy;
  }
  wake(kRareGap);
}

bool ControlLoop::stalled() const { return clock_.now().count() - last_tick_ > kStallPeriods * period_; }

void ControlLoop::run() {
  while (!stopping_) {
    take_over();
    const Time started = clock_.now();
    ticker_.tick();
    const Time ended = clock_.now();
    grows_wait_ = ticker_.grows_wait();
    last_tick_ = ended.count();
    observe_(ended - started);
    wait();
  }
}

void ControlLoop::take_over() {
  std::optional<policy::rules::PolicyFile> policy;
  {
    const std::lock_guard lock(mutex_);
    policy.swap(new_policy_);
  }
  if (policy) ticker_.set_policy(*policy);
}

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
  const std::lock_guard lock(mutex_);
  woken_.reset();
}

Time ControlLoop::due() const {
  const std::lock_guard lock(mutex_);
  const nanoseconds period(period_.load());
  return Time(last_tick_.load()) + (woken_ ? std::min(*woken_, period) : period);
}

void ControlLoop::wake(nanoseconds gap) {
  {
    const std::lock_guard lock(mutex_);
    if (woken_ && *woken_ <= gap) return;
    woken_ = gap;
  }
  if (!wakeup_) return;
  constexpr std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wakeup_.get(), &one, sizeof one);
}

}  // namespace balloon::daemon
