// SPDX-License-Identifier: Apache-2.0
// Writes a guest's output to a terminal, pipe, socket or file that may be slow, without ever waiting for it.
#pragma once

#include <sys/uio.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <span>

#include "base/error.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "vmm/devices/serial/sink.h"
#include "vmm/event_loop.h"

namespace balloon::vmm {

/// A reader that has fallen asleep holds the guest's output up for a moment; then output is dropped until it
/// wakes.
class SerialOutput {
 public:
  /// How long the guest waits for a reader that does not read.
  static constexpr std::chrono::milliseconds kPatience{200};

  static Result<std::unique_ptr<SerialOutput>> create(EventLoop& loop);
  ~SerialOutput();
  SerialOutput(const SerialOutput&) = delete;
  SerialOutput& operator=(const SerialOutput&) = delete;

  /// Writes to what `fd` is open to from now on; -1: nowhere. From the loop's thread, or before it matters.
  void follow(int fd);

  /// As SerialBackend::transmit_some().
  std::size_t write_some(std::span<const iovec> buffers);
  /// Writes a byte; waits for a slow reader, up to kPatience.
  void write_waiting(std::byte byte);
  /// Whose transmit_ready() is called; once it returns, that of the former one is not.
  void attach(SerialSink* sink);

 private:
  enum class Kind {
    nonblocking,  ///< a write takes what there is room for; or it is a file, where there always is
    socket,       ///< likewise, when it is told so
    terminal,     ///< a write waits: only a byte is sure to go when there is room
    pipe,         ///< likewise, but PIPE_BUF bytes are
  };

  explicit SerialOutput(EventLoop& loop) : loop_(loop) {}
  ssize_t write_now(std::span<const iovec> buffers) const;
  void wait_for_reader();
  void stop_waiting();
  void go_on(bool writable);

  EventLoop& loop_;
  std::unique_ptr<EventLoop::Timer> patience_;
  UniqueFd fd_;  ///< of its own: the loop watches the other one for input
  Kind kind_ = Kind::nonblocking;
  std::atomic<bool> waiting_ = false;  ///< for the reader; watched
  std::atomic<bool> asleep_ = false;   ///< the reader was waited for in vain
  Mutex mutex_;                        ///< lock order: this, then the sink's
  SerialSink* sink_ GUARDED_BY(mutex_) = nullptr;
};

}  // namespace balloon::vmm
