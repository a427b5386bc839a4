// SPDX-License-Identifier: Apache-2.0
#include "vmm/monitor/command_thread.h"

#include <pthread.h>

#include <csignal>
#include <system_error>
#include <utility>

#include "base/log.h"

namespace balloon::vmm {

void CommandThread::run(Command command) {
  if (!thread_.joinable()) {
    // Signals belong to the main thread and the vCPUs.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    sigdelset(&all, SIGBUS);  // vmm/memory/lost_memory.h
    pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
      thread_ = std::jthread([this](const std::stop_token& stop) { serve(stop); });
      pthread_setname_np(thread_.native_handle(), "monitor-work");
    } catch (const std::system_error& error) {
      log::warning("the host gives no thread for the monitor, its loop does the work: {}", error.what());
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (!thread_.joinable()) return command();
  }
  {
    const MutexLock lock(mutex_);
    commands_.push_back(std::move(command));
  }
  waiting_.notify_one();
}

void CommandThread::serve(const std::stop_token& stop) {
  while (true) {
    Command command;
    {
      UniqueLock lock(mutex_);
      if (!waiting_.wait(lock.standard(), stop, [this]() REQUIRES(mutex_) { return !commands_.empty(); }) ||
          stop.stop_requested())
        return;
      command = std::move(commands_.front());
      commands_.pop_front();
    }
    command();
  }
}

}  // namespace balloon::vmm
