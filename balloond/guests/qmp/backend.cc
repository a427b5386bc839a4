// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/qmp/backend.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "base/log.h"

namespace balloon::daemon::qmp {
namespace {

/// Directories are looked through this often, whatever inotify says: one may have come that could not be
/// watched.
constexpr std::chrono::nanoseconds kLookPeriod = std::chrono::seconds(10);
/// Sockets served in one turn before those that are due by time.
constexpr std::size_t kEventsMax = 64;

}  // namespace

Backend::Backend(const Clock& clock, GuestEvents& guests)
    : clock_(clock),
      surroundings_{
          .clock = clock,
          .guests = guests,
          .wake = [this] { wake(); },
          .is_managed = [this](pid_t pid, const std::string& except) { return is_managed(pid, except); },
          .health = health_,
          .stats_interval = std::chrono::seconds(1)} {}

Backend::~Backend() { stop(); }

Result<void> Backend::manage(std::vector<QmpSockets> sources, std::chrono::nanoseconds stats_interval) {
  health_.configured = !sources.empty();
  if (!thread_.joinable()) {
    if (sources.empty()) return {};
    BALLOON_TRY(start());
  }
  {
    const MutexLock lock(mutex_);
    order_ = Order{.sources = std::move(sources), .stats_interval = stats_interval};
  }
  wake();
  return {};
}

Result<void> Backend::start() {
  epoll_ = UniqueFd(::epoll_create1(EPOLL_CLOEXEC));
  wakeup_ = UniqueFd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!epoll_ || !wakeup_) return fail_errno("cannot watch QMP sockets", errno);
  epoll_event event{.events = EPOLLIN, .data = {.fd = wakeup_.get()}};
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, wakeup_.get(), &event) != 0)
    return fail_errno("cannot watch QMP sockets", errno);
  thread_ = std::thread([this] { run(); });
  return {};
}

void Backend::stop() {
  if (!thread_.joinable()) return;
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  wake();
  thread_.join();
}

void Backend::wake() const {
  const std::uint64_t one = 1;
  if (::write(wakeup_.get(), &one, sizeof(one)) < 0) return;  // it is full of wake-ups
}

void Backend::run() {
  std::array<epoll_event, kEventsMax> events;
  while (true) {
    const int count = ::epoll_wait(epoll_.get(), events.data(), kEventsMax, wait_for());
    for (int i = 0; i < count; ++i) {
      const epoll_event& event = events.at(static_cast<std::size_t>(i));
      if (event.data.fd == wakeup_.get()) {
        std::uint64_t ignored = 0;
        if (::read(wakeup_.get(), &ignored, sizeof(ignored)) < 0) continue;
        {
          const MutexLock lock(mutex_);
          if (stopping_) return sockets_.clear();
        }
        take_order();
        for (auto& [path, managed] : sockets_) {
          managed.monitor->on_mail();
          after(*managed.monitor);
        }
      } else if (event.data.fd == polled_directories_) {
        for (const std::string& path : directories_.take_new()) {
          if (const auto known = sockets_.find(path); known != sockets_.end()) {
            known->second.monitor->on_new_socket();
            after(*known->second.monitor);
          }
        }
        look();
      } else if (const auto path = paths_.find(event.data.fd); path != paths_.end()) {
        Monitor& monitor = *sockets_.at(path->second).monitor;
        if ((event.events & EPOLLOUT) != 0) monitor.on_writable();
        if ((event.events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) monitor.on_readable();
        after(monitor);
      }
    }
    const Time now = clock_.now();
    if (now - looked_at_ >= kLookPeriod) look();
    while (!agenda_.empty() && agenda_.begin()->first <= now) {
      Monitor& monitor = *sockets_.at(agenda_.begin()->second).monitor;
      monitor.on_time();
      after(monitor);
    }
  }
}

int Backend::wait_for() const {
  Time until = looked_at_ + kLookPeriod;
  if (!agenda_.empty()) until = std::min(until, agenda_.begin()->first);
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - clock_.now()).count();
  return static_cast<int>(std::clamp<std::int64_t>(left, 0, 10'000));
}

void Backend::take_order() {
  std::optional<Order> order;
  {
    const MutexLock lock(mutex_);
    order = std::exchange(order_, {});
  }
  if (!order) return;
  sources_ = std::move(order->sources);
  surroundings_.stats_interval = order->stats_interval;
  look();
}

void Backend::look() {
  looked_at_ = clock_.now();
  directories_.watch(sources_);
  if (polled_directories_ < 0 && directories_.fd() >= 0) {
    polled_directories_ = directories_.fd();
    epoll_event event{.events = EPOLLIN, .data = {.fd = polled_directories_}};
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, polled_directories_, &event);
  }
  const std::map<std::string, Use> found = find_sockets(sources_);
  for (auto known = sockets_.begin(); known != sockets_.end();) {
    const auto still = found.find(known->first);
    // A socket whose file is gone may still be connected, and its guest alive.
    const bool unlinked =
        still == found.end() && known->second.monitor->fd() >= 0 && is_named(sources_, known->first);
    if (unlinked || (still != found.end() && still->second == known->second.monitor->use())) {
      ++known;
      continue;
    }
    agenda_.erase({known->second.due, known->first});
    if (known->second.polled_fd >= 0) paths_.erase(known->second.polled_fd);
    count(known->second, Standing::untried);
    known = sockets_.erase(known);
  }
  for (const auto& [path, use] : found) {
    if (sockets_.contains(path)) continue;
    auto monitor = std::make_unique<Monitor>(surroundings_, path, use);
    Managed& managed = sockets_[path];
    managed.monitor = std::move(monitor);
    managed.due = managed.monitor->due();
    agenda_.emplace(managed.due, path);
  }
}

/// Takes over what a monitor has changed: its connection, what it waits for, and when it is due.
void Backend::after(Monitor& monitor) {
  const std::string& path = monitor.path();
  Managed& managed = sockets_.at(path);
  if (managed.polled_fd != monitor.fd() ||
      (monitor.fd() >= 0 && managed.polls_write != monitor.wants_write())) {
    const bool is_new = managed.polled_fd != monitor.fd();
    if (is_new && managed.polled_fd >= 0) paths_.erase(managed.polled_fd);  // closed: epoll has forgotten it
    managed.polled_fd = monitor.fd();
    managed.polls_write = monitor.wants_write();
    if (managed.polled_fd >= 0) {
      epoll_event event{.events = EPOLLIN | (managed.polls_write ? EPOLLOUT : 0U),
                        .data = {.fd = managed.polled_fd}};
      ::epoll_ctl(epoll_.get(), is_new ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, managed.polled_fd, &event);
      paths_.insert_or_assign(managed.polled_fd, path);
    }
  }
  agenda_.erase({managed.due, path});
  managed.due = monitor.due();
  agenda_.emplace(managed.due, path);
  count(managed, monitor.failing()     ? Standing::failing
                 : monitor.has_guest() ? Standing::connected
                                       : Standing::untried);
}

void Backend::count(Managed& managed, Standing standing) {
  const auto add = [this](Standing which, std::uint64_t by) {
    if (which == Standing::connected) health_.connected += by;
    if (which == Standing::failing) health_.failing += by;
  };
  add(std::exchange(managed.standing, standing), ~std::uint64_t{0});  // one less
  add(standing, 1);
}

bool Backend::is_managed(pid_t pid, const std::string& except) const {
  return std::ranges::any_of(sockets_, [&](const auto& each) {
    return each.first != except && each.second.monitor && each.second.monitor->guest_pid() == pid;
  });
}

}  // namespace balloon::daemon::qmp
