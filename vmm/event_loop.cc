// SPDX-License-Identifier: Apache-2.0
#include "vmm/event_loop.h"

#include <fmt/format.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <map>
#include <thread>
#include <utility>

#include "base/log.h"
#include "base/mutex.h"

namespace balloon::vmm {
namespace {

/// Events taken from epoll at once: a batch, not a limit.
constexpr int kEventBatch = 16;
/// Linux keeps 15 characters of a thread's name (TASK_COMM_LEN - 1).
constexpr std::size_t kThreadNameMax = 15;

/// Takes the count out of an eventfd or timerfd; false when there was none.
bool drain(int fd) {
  std::uint64_t count = 0;
  return ::read(fd, &count, sizeof count) == static_cast<ssize_t>(sizeof count);
}

}  // namespace

struct EventLoop::Impl {
  using Id =
      std::uint64_t;  ///< of a watch; never used twice, so that an event of a closed fd finds no successor
  static constexpr Id kWake = 0;
  static constexpr Id kNone = 0;

  struct Watch {
    int fd;
    std::shared_ptr<Callback> callback;
  };

  UniqueFd epoll;
  UniqueFd wake;
  std::atomic<bool> stopping = false;
  Mutex join_mutex;  ///< one joins
  std::thread thread;
  std::thread::id thread_id;

  Mutex mutex;
  std::condition_variable idle;  ///< `running`, `paused` or `stopping` changed
  std::map<Id, Watch> watches GUARDED_BY(mutex);
  Id last_id GUARDED_BY(mutex) = kWake;
  bool paused GUARDED_BY(mutex) = false;
  Id running GUARDED_BY(mutex) = kNone;  ///< the watch whose callback runs now

  void run();
  void dispatch(Id id);
};

void EventLoop::Impl::run() {
  std::array<epoll_event, kEventBatch> events;
  while (!stopping) {
    const int count = ::epoll_wait(epoll.get(), events.data(), kEventBatch, -1);
    if (count < 0 && errno != EINTR) {
      log::error("Event loop stops: epoll_wait failed with errno {}", errno);
      return;
    }
    for (int i = 0; i < count && !stopping; ++i) {
      const Id id = events[static_cast<std::size_t>(i)].data.u64;
      if (id != kWake) dispatch(id);
    }
  }
}

void EventLoop::Impl::dispatch(Id id) {
  std::shared_ptr<Callback> callback;
  {
    UniqueLock lock(mutex);
    idle.wait(lock.standard(), [this]() REQUIRES(mutex) { return !paused || stopping; });
    if (stopping) return;
    const auto watch = watches.find(id);
    if (watch == watches.end()) return;  // unwatched by an earlier callback of this batch
    callback = watch->second.callback;
    running = id;
  }
  (*callback)();
  callback.reset();  // before unwatch() may return: what it captured may go away then
  {
    const MutexLock lock(mutex);
    running = kNone;
  }
  idle.notify_all();
}

Result<std::unique_ptr<EventLoop>> EventLoop::create(const std::string& thread_name, Clock& clock) {
  auto impl = std::make_unique<Impl>();
  impl->epoll = UniqueFd(::epoll_create1(EPOLL_CLOEXEC));
  if (!impl->epoll) return fail_errno("creating an epoll", errno);
  impl->wake = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!impl->wake) return fail_errno("creating an eventfd", errno);
  epoll_event event{.events = EPOLLIN, .data = {.u64 = Impl::kWake}};
  if (::epoll_ctl(impl->epoll.get(), EPOLL_CTL_ADD, impl->wake.get(), &event) != 0) {
    return fail_errno("watching an eventfd", errno);
  }
  // Signals belong to the main thread and the vCPUs.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  sigdelset(&all, SIGBUS);  // vmm/memory/lost_memory.h
  pthread_sigmask(SIG_SETMASK, &all, &before);
  impl->thread = std::thread([&state = *impl] { state.run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  impl->thread_id = impl->thread.get_id();
  pthread_setname_np(impl->thread.native_handle(), thread_name.substr(0, kThreadNameMax).c_str());
  return std::unique_ptr<EventLoop>(new EventLoop(std::move(impl), clock));
}

EventLoop::EventLoop(std::unique_ptr<Impl> impl, Clock& clock) : impl_(std::move(impl)), clock_(clock) {}

EventLoop::~EventLoop() { stop(); }

void EventLoop::pause() {
  UniqueLock lock(impl_->mutex);
  impl_->paused = true;
  impl_->idle.wait(lock.standard(),
                   [this]() REQUIRES(impl_->mutex) { return impl_->running == Impl::kNone; });
}

void EventLoop::resume() {
  const MutexLock lock(impl_->mutex);
  impl_->paused = false;
  impl_->idle.notify_all();
}

void EventLoop::stop() {
  {
    const MutexLock lock(impl_->mutex);
    impl_->stopping = true;
    impl_->idle.notify_all();
  }
  const std::uint64_t one = 1;
  // It can only fail when the counter is full, and then the loop is awake anyway.
  [[maybe_unused]] const ssize_t written = ::write(impl_->wake.get(), &one, sizeof one);
  if (std::this_thread::get_id() == impl_->thread_id) return;
  const MutexLock lock(impl_->join_mutex);
  if (impl_->thread.joinable()) impl_->thread.join();
}

Result<void> EventLoop::watch(int fd, Callback callback) { return watch(fd, EPOLLIN, std::move(callback)); }

Result<void> EventLoop::watch_writable(int fd, Callback callback) {
  return watch(fd, EPOLLOUT, std::move(callback));
}

Result<void> EventLoop::watch(int fd, std::uint32_t events, Callback callback) {
  const MutexLock lock(impl_->mutex);
  const Impl::Id id = ++impl_->last_id;
  epoll_event event{.events = events, .data = {.u64 = id}};
  if (::epoll_ctl(impl_->epoll.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    return fail_errno(fmt::format("watching file descriptor {}", fd), errno);
  }
  impl_->watches.emplace(id, Impl::Watch{fd, std::make_shared<Callback>(std::move(callback))});
  return {};
}

void EventLoop::unwatch(int fd) {
  std::shared_ptr<Callback> callback;  // destroyed after the lock is released: it may own anything
  UniqueLock lock(impl_->mutex);
  const auto watch =
      std::ranges::find_if(impl_->watches, [fd](const auto& entry) { return entry.second.fd == fd; });
  if (watch == impl_->watches.end()) return;
  const Impl::Id id = watch->first;
  callback = std::move(watch->second.callback);
  impl_->watches.erase(watch);
  ::epoll_ctl(impl_->epoll.get(), EPOLL_CTL_DEL, fd, nullptr);
  if (std::this_thread::get_id() == impl_->thread_id) return;
  impl_->idle.wait(lock.standard(), [&]() REQUIRES(impl_->mutex) { return impl_->running != id; });
}

Result<UniqueFd> EventLoop::watch_event(Callback callback) {
  UniqueFd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event) return fail_errno("creating an eventfd", errno);
  BALLOON_TRY(watch(event.get(), [fd = event.get(), callback = std::move(callback)] {
    if (drain(fd)) callback();
  }));
  return event;
}

Result<std::unique_ptr<EventLoop::Timer>> EventLoop::timer(Callback callback) {
  auto alarm = clock_.alarm();
  if (!alarm) return std::unexpected(alarm.error());
  UniqueFd fd = std::move(*alarm);
  // A timer stopped after it expired has nothing to read: then it does not call.
  BALLOON_TRY(watch(fd.get(), [timer = fd.get(), callback = std::move(callback)] {
    if (drain(timer)) callback();
  }));
  return std::unique_ptr<Timer>(new Timer(*this, std::move(fd)));
}

EventLoop::Timer::Timer(EventLoop& loop, UniqueFd fd) : loop_(loop), fd_(std::move(fd)) {}

EventLoop::Timer::~Timer() {
  loop_.clock().forget(fd_.get());
  loop_.unwatch(fd_.get());
}

void EventLoop::Timer::set(std::chrono::nanoseconds interval) { loop_.clock().set(fd_.get(), interval); }

}  // namespace balloon::vmm
