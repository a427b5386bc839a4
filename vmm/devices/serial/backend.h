// Where the serial port's bytes go to and come from: the terminal, a file, a Unix socket, or nowhere. A
// backend lives as long as the process; each machine (there is a new one after a reboot) attaches its UART to
// it.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "base/error.h"
#include "base/unique_fd.h"
#include "vmm/devices/serial/uart.h"
#include "vmm/event_loop.h"

namespace balloon::vmm {

struct SerialConfig {
  enum class Kind { none, stdio, file, unix_socket };
  Kind kind = Kind::stdio;
  std::string path;  ///< of the file or the socket
};

class SerialBackend {
 public:
  virtual ~SerialBackend() = default;

  /// Fails with what is wrong with the path: no permission, too long for a socket, served by another process.
  static Result<std::unique_ptr<SerialBackend>> create(const SerialConfig& config, EventLoop& loop);

  /// A byte from the guest. Does not block for long: what nobody reads is dropped.
  virtual void transmit(std::byte byte) = 0;
  /// Input goes to `uart` from now on; nullptr: waits. Once it returns, the former UART is not called.
  virtual void attach(Uart* /*uart*/) {}
  /// The attached UART has room again.
  virtual void resume_input() {}
};

/// Reads a file descriptor as fast as the guest takes it, and no faster: while the UART's FIFO is full, the
/// source waits.
class SerialInput {
 public:
  static Result<std::unique_ptr<SerialInput>> create(EventLoop& loop);
  ~SerialInput();

  /// Reads from `fd` until its end; then calls `on_end`, on the loop's thread. From the loop's thread, or
  /// before it matters.
  void follow(int fd, std::function<void()> on_end);
  void unfollow();
  void attach(Uart* uart);
  void resume();

 private:
  explicit SerialInput(EventLoop& loop) : loop_(loop) {}
  void on_resume();
  void on_readable();
  void set_watched(bool watched);

  EventLoop& loop_;
  UniqueFd resume_event_;
  std::mutex mutex_;  ///< of uart_
  Uart* uart_ = nullptr;
  std::atomic<int> fd_ = -1;
  std::atomic<bool> watched_ = false;
  std::function<void()> on_end_;
};

}  // namespace balloon::vmm
