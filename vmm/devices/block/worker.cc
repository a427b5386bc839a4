// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/block/worker.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <system_error>
#include <utility>

#include "base/log.h"

namespace balloon::vmm {

Result<std::unique_ptr<Worker>> Worker::create() {
  UniqueFd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event) return fail_errno("creating an eventfd", errno);
  return std::unique_ptr<Worker>(new Worker(std::move(event)));
}

Worker::~Worker() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Worker::start(Job job) {
  {
    const MutexLock lock(mutex_);
    job_ = std::move(job);
    ended_ = false;
  }
  if (thread_.joinable()) return changed_.notify_all();
  // Signals belong to the main thread and the vCPUs.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  sigdelset(&all, SIGBUS);  // vmm/memory/lost_memory.h
  pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    thread_ = std::thread([this] { run(); });
    pthread_setname_np(thread_.native_handle(), "disk-work");
  } catch (const std::system_error& error) {
    log::warning("the host gives no thread for a disk, its loop does the work: {}", error.what());
    std::exchange(job_, {})();
    ended_ = true;
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(event_.get(), &one, sizeof one);
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

bool Worker::has_ended() {
  std::uint64_t count = 0;
  [[maybe_unused]] const ssize_t drained = ::read(event_.get(), &count, sizeof count);
  const MutexLock lock(mutex_);
  return std::exchange(ended_, false);
}

void Worker::wait() {
  UniqueLock lock(mutex_);
  changed_.wait(lock.standard(), [this]() REQUIRES(mutex_) { return ended_; });
}

void Worker::run() {
  UniqueLock lock(mutex_);
  while (true) {
    changed_.wait(lock.standard(), [this]() REQUIRES(mutex_) { return job_ || stopping_; });
    if (!job_) return;
    const Job job = std::exchange(job_, {});
    lock.unlock();
    job();
    lock.lock();
    ended_ = true;
    changed_.notify_all();
    const std::uint64_t one = 1;
    // It can only fail when the counter is full, and then the loop is awake anyway.
    [[maybe_unused]] const ssize_t written = ::write(event_.get(), &one, sizeof one);
  }
}

}  // namespace balloon::vmm
