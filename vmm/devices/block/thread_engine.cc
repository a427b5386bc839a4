// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <condition_variable>
#include <csignal>
#include <deque>
#include <system_error>
#include <thread>
#include <utility>

#include "base/mutex.h"
#include "base/unique_fd.h"
#include "vmm/devices/block/io_engine.h"

namespace balloon::vmm {
namespace {

/// Enough that a flush does not hold up reads, and that an SSD sees some depth.
constexpr std::size_t kThreads = 4;

std::int64_t perform(const FileIo& io) {
  const int count = static_cast<int>(std::min<std::size_t>(io.buffers.size(), IOV_MAX));
  const auto offset = static_cast<off_t>(io.offset);
  ssize_t result = -1;
  do {
    switch (io.kind) {
      case FileIo::Kind::read:
        result = ::preadv(io.fd, io.buffers.data(), count, offset);
        break;
      case FileIo::Kind::write:
        result = ::pwritev2(io.fd, io.buffers.data(), count, offset, io.durable ? RWF_DSYNC : 0);
        break;
      case FileIo::Kind::flush:
        result = ::fdatasync(io.fd);
        break;
      case FileIo::Kind::punch_hole:
      case FileIo::Kind::zero_range:
        result =
            ::fallocate(io.fd,
                        FALLOC_FL_KEEP_SIZE | (io.kind == FileIo::Kind::punch_hole ? FALLOC_FL_PUNCH_HOLE
                                                                                   : FALLOC_FL_ZERO_RANGE),
                        offset, static_cast<off_t>(io.size));
        break;
    }
  } while (result < 0 && errno == EINTR);
  return result < 0 ? -errno : result;
}

class ThreadEngine final : public IoEngine {
 public:
  ThreadEngine(Done done, UniqueFd event) : done_(std::move(done)), event_(std::move(event)) {
    // Signals belong to the main thread and the vCPUs.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    sigdelset(&all, SIGBUS);  // vmm/memory/lost_memory.h
    pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
      for (std::thread& thread : threads_) thread = std::thread([this] { run(); });
    } catch (...) {
      stop();
      pthread_sigmask(SIG_SETMASK, &before, nullptr);
      throw;
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    for (std::thread& thread : threads_) pthread_setname_np(thread.native_handle(), "disk-io");
  }
  ~ThreadEngine() override { stop(); }
  ThreadEngine(const ThreadEngine&) = delete;
  ThreadEngine& operator=(const ThreadEngine&) = delete;

  std::string_view name() const override { return "threads"; }
  int fd() const override { return event_.get(); }
  std::size_t in_flight() const override { return in_flight_; }

  void start(FileIo& io) override {
    ++in_flight_;
    const MutexLock lock(mutex_);
    waiting_.push_back(&io);
  }

  void submit() override { work_.notify_all(); }

  void collect() override {
    std::uint64_t count = 0;
    [[maybe_unused]] const ssize_t drained = ::read(event_.get(), &count, sizeof count);
    // One at a time: Done may call drain().
    while (FileIo* io = next_finished()) {
      --in_flight_;
      done_(*io);
    }
  }

  void drain() override {
    while (in_flight_ > 0) {
      submit();
      {
        UniqueLock lock(mutex_);
        progress_.wait(lock.standard(), [this]() REQUIRES(mutex_) { return !finished_.empty(); });
      }
      collect();
    }
  }

 private:
  FileIo* next_finished() {
    const MutexLock lock(mutex_);
    if (finished_.empty()) return nullptr;
    FileIo* io = finished_.front();
    finished_.pop_front();
    return io;
  }

  void run() {
    UniqueLock lock(mutex_);
    while (true) {
      work_.wait(lock.standard(), [this]() REQUIRES(mutex_) { return stopping_ || !waiting_.empty(); });
      if (waiting_.empty()) return;
      FileIo* io = waiting_.front();
      waiting_.pop_front();
      lock.unlock();
      io->result = perform(*io);
      lock.lock();
      finished_.push_back(io);
      progress_.notify_all();
      const std::uint64_t one = 1;
      // It can only fail when the counter is full, and then the loop is awake anyway.
      [[maybe_unused]] const ssize_t written = ::write(event_.get(), &one, sizeof one);
    }
  }

  void stop() {
    {
      const MutexLock lock(mutex_);
      stopping_ = true;
    }
    work_.notify_all();
    for (std::thread& thread : threads_) {
      if (thread.joinable()) thread.join();
    }
  }

  const Done done_;
  const UniqueFd event_;
  std::size_t in_flight_ = 0;

  Mutex mutex_;
  std::condition_variable work_;
  std::condition_variable progress_;
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::deque<FileIo*> waiting_ GUARDED_BY(mutex_);
  std::deque<FileIo*> finished_ GUARDED_BY(mutex_);
  std::array<std::thread, kThreads> threads_;
};

}  // namespace

Result<std::unique_ptr<IoEngine>> make_thread_engine(IoEngine::Done done) {
  UniqueFd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event) return fail_errno("creating an eventfd", errno);
  try {
    return std::make_unique<ThreadEngine>(std::move(done), std::move(event));
  } catch (const std::system_error& error) {
    return fail_errno("starting the disk's threads", error.code().value());
  }
}

}  // namespace balloon::vmm
