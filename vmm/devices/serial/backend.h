// SPDX-License-Identifier: Apache-2.0
// Where a serial port's or console's bytes go to and come from: the terminal, a file, a pseudo-terminal, a
// Unix socket, or nowhere. A backend lives as long as the process; each machine (there is a new one after a
// reboot) attaches its device to it.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "vmm/devices/serial/output.h"
#include "vmm/devices/serial/sink.h"
#include "vmm/event_loop.h"

namespace balloon::vmm {

struct SerialConfig {
  enum class Kind { none, stdio, file, unix_socket, pty };
  /// What becomes of keys on the terminal that are not for the guest.
  enum class Keys {
    escape,   ///< Ctrl-A begins what is for the VMM (terminal_keys.h); all others are the guest's
    signals,  ///< the terminal's own (Ctrl-C, Ctrl-Z) reach the VMM; all others are the guest's
    raw,      ///< all are the guest's
  };
  Kind kind = Kind::stdio;
  std::string
      path{};  ///< of the file or the socket; of a pseudo-terminal: of a symbolic link to it, or empty
  Keys keys = Keys::escape;  ///< stdio
};

class SerialBackend {
 public:
  virtual ~SerialBackend() = default;

  /// Fails with what is wrong with the path: no permission, too long for a socket, served by another process.
  static Result<std::unique_ptr<SerialBackend>> create(const SerialConfig& config, EventLoop& loop);

  /// A byte from the guest. Does not block for long: what nobody reads is dropped.
  virtual void transmit(std::byte byte) = 0;
  /// Bytes from the guest: takes those that go at once, and returns how many that was. 0: its reader is
  /// behind. When that has changed, or has lasted for too long, SerialSink::transmit_ready() is called. Never
  /// waits; what nobody reads is dropped, and counts as taken. At most IOV_MAX buffers, not all empty.
  virtual std::size_t transmit_some(std::span<const iovec> buffers) = 0;
  /// Input goes to `sink` from now on; nullptr: waits. Once it returns, the former one is not called. Not
  /// with a mutex that the sink takes.
  virtual void attach(SerialSink* /*sink*/) {}
  /// The attached device has room again.
  virtual void resume_input() {}
};

/// Reads a file descriptor as fast as the guest takes it, and no faster: while the device is full, the
/// source waits.
class SerialInput {
 public:
  static Result<std::unique_ptr<SerialInput>> create(EventLoop& loop);
  ~SerialInput();

  /// Reads from `fd` until its end; then calls `on_end`, on the loop's thread. From the loop's thread, or
  /// before it matters.
  void follow(int fd, std::function<void()> on_end);
  void unfollow();
  void attach(SerialSink* sink);
  void resume();
  /// Takes out of what is read what is not for the guest; returns the rest, in place. Called on the loop's
  /// thread. Before follow().
  using Filter = std::function<std::span<std::byte>(std::span<std::byte>)>;
  void filter(Filter filter) { filter_ = std::move(filter); }

 private:
  explicit SerialInput(EventLoop& loop) : loop_(loop) {}
  void on_resume();
  void on_readable();
  void set_watched(bool watched);

  EventLoop& loop_;
  UniqueFd resume_event_;
  Mutex mutex_;
  SerialSink* sink_ GUARDED_BY(mutex_) = nullptr;
  std::atomic<int> fd_ = -1;
  std::atomic<bool> watched_ = false;
  std::function<void()> on_end_;
  Filter filter_;
};

}  // namespace balloon::vmm
