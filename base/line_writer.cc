// SPDX-License-Identifier: Apache-2.0
#include "base/line_writer.h"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <deque>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

#include "base/mutex.h"

namespace balloon {
namespace {

/// Writes all of `line`, however long that takes; false when the descriptor takes no more.
bool write_whole(int fd, std::string_view line) {
  while (!line.empty()) {
    const ssize_t written = ::write(fd, line.data(), line.size());
    if (written >= 0) {
      line.remove_prefix(static_cast<std::size_t>(written));
    } else if (errno == EAGAIN) {
      pollfd wait{.fd = fd, .events = POLLOUT, .revents = 0};
      ::poll(&wait, 1, -1);
    } else if (errno != EINTR) {
      return false;
    }
  }
  return true;
}

/// A thread that no signal comes to: signals are the program's, and a reader that has gone is an error of
/// write().
bool start_without_signals(std::function<void()> work) {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  bool started = true;
  try {
    std::thread(std::move(work)).detach();
  } catch (const std::system_error&) {  // no thread to be had: lines are lost and counted
    started = false;
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return started;
}

}  // namespace

struct LineWriter::Shared {
  const int fd;
  const std::function<std::string(std::uint64_t)> notice;
  Mutex mutex{};  ///< never held while writing
  std::condition_variable changed{};
  std::deque<std::string> waiting GUARDED_BY(mutex){};
  std::size_t bytes GUARDED_BY(mutex) = 0;  ///< of lines that wait or are being written
  bool running GUARDED_BY(mutex) = false;
  bool ending GUARDED_BY(mutex) = false;
  std::uint64_t lost GUARDED_BY(mutex) = 0;
  std::uint64_t lost_told GUARDED_BY(mutex) = 0;
};

LineWriter::LineWriter(int fd, std::function<std::string(std::uint64_t)> notice)
    : shared_(new Shared{.fd = fd, .notice = std::move(notice)}) {}

LineWriter::~LineWriter() {
  drain(kDrainMax);
  const MutexLock lock(shared_->mutex);
  shared_->ending = true;
  shared_->changed.notify_all();
}

void LineWriter::add(std::string line, Weight weight) {
  const std::size_t most = weight == Weight::important ? kQueueMax : kQueueMax / 4 * 3;
  const MutexLock lock(shared_->mutex);
  if (!shared_->running) shared_->running = start_without_signals([shared = shared_] { run(shared); });
  if (!shared_->running || shared_->bytes + line.size() > most) {
    ++shared_->lost;
    return;
  }
  shared_->bytes += line.size();
  shared_->waiting.push_back(std::move(line));
  shared_->changed.notify_all();
}

bool LineWriter::drain(std::chrono::milliseconds limit) {
  UniqueLock lock(shared_->mutex);
  return shared_->changed.wait_for(lock.standard(), limit,
                                   [this]() REQUIRES(shared_->mutex) { return shared_->bytes == 0; });
}

std::uint64_t LineWriter::lost() const {
  const MutexLock lock(shared_->mutex);
  return shared_->lost;
}

void LineWriter::run(const std::shared_ptr<Shared>& shared) {
  UniqueLock lock(shared->mutex);
  while (true) {
    shared->changed.wait(lock.standard(), [&]() REQUIRES(shared->mutex) {
      return !shared->waiting.empty() || shared->ending;
    });
    if (shared->waiting.empty()) return;
    const std::string line = std::move(shared->waiting.front());
    shared->waiting.pop_front();
    lock.unlock();
    const bool written = write_whole(shared->fd, line);
    lock.lock();
    if (!written) ++shared->lost;
    const std::uint64_t untold = shared->lost - shared->lost_told;
    if (written && untold > 0 && shared->waiting.empty()) {
      shared->lost_told = shared->lost;
      const std::string notice = shared->notice(untold);
      lock.unlock();
      write_whole(shared->fd, notice);
      lock.lock();
    }
    shared->bytes -= line.size();
    if (shared->bytes == 0) shared->changed.notify_all();
  }
}

}  // namespace balloon
