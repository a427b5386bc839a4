// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/serial/output.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "base/log.h"

namespace balloon::vmm {
namespace {

std::size_t total(std::span<const iovec> buffers) {
  std::size_t sum = 0;
  for (const iovec& buffer : buffers) sum += buffer.iov_len;
  return sum;
}

bool is_nonblocking(int fd) { return (::fcntl(fd, F_GETFL) & O_NONBLOCK) != 0; }

bool has_room(int fd, int milliseconds) {
  pollfd poll{.fd = fd, .events = POLLOUT, .revents = 0};
  return ::poll(&poll, 1, milliseconds) > 0 && (poll.revents & (POLLOUT | POLLERR)) != 0;
}

}  // namespace

Result<std::unique_ptr<SerialOutput>> SerialOutput::create(EventLoop& loop) {
  std::unique_ptr<SerialOutput> output(new SerialOutput(loop));
  auto timer = loop.timer([raw = output.get()] { raw->go_on(/*writable=*/false); });
  if (!timer) return fail("making the serial port's timer", timer.error());
  output->patience_ = std::move(*timer);
  return output;
}

SerialOutput::~SerialOutput() {
  stop_waiting();
  patience_.reset();
}

void SerialOutput::follow(int fd) {
  // Whoever waits goes on when patience ends.
  if (waiting_) loop_.unwatch(fd_.get());
  asleep_ = false;
  fd_.reset();
  kind_ = Kind::nonblocking;
  struct stat status = {};
  if (fd < 0 || ::fstat(fd, &status) != 0) return;
  const bool slow = S_ISFIFO(status.st_mode) || S_ISCHR(status.st_mode);
  if (slow && !is_nonblocking(fd)) {
    // O_NONBLOCK belongs to the open file, which others have, too (the shell that started us): so it is
    // opened once more. Who may not do that (with a terminal of another user) writes in small pieces.
    fd_ = UniqueFd(
        ::open(fmt::format("/proc/self/fd/{}", fd).c_str(), O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
    if (fd_) return;
    kind_ = S_ISFIFO(status.st_mode) ? Kind::pipe : Kind::terminal;
  }
  if (S_ISSOCK(status.st_mode)) kind_ = Kind::socket;
  fd_ = UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
}

/// As write(): -1 with EAGAIN when there is no room.
ssize_t SerialOutput::write_now(std::span<const iovec> buffers) const {
  switch (kind_) {
    case Kind::nonblocking:
      return ::writev(fd_.get(), buffers.data(), static_cast<int>(buffers.size()));
    case Kind::socket: {
      msghdr message{};
      message.msg_iov = const_cast<iovec*>(buffers.data());  // sendmsg() only reads it
      message.msg_iovlen = buffers.size();
      return ::sendmsg(fd_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    case Kind::terminal:
    case Kind::pipe:
      break;
  }
  if (!has_room(fd_.get(), 0)) {
    errno = EAGAIN;
    return -1;
  }
  // A pipe that has room takes PIPE_BUF bytes in one go (pipe(7)).
  const std::size_t most = kind_ == Kind::pipe ? PIPE_BUF : 1;
  const auto first = std::ranges::find_if(buffers, [](const iovec& buffer) { return buffer.iov_len > 0; });
  return first == buffers.end() ? 0 : ::write(fd_.get(), first->iov_base, std::min(first->iov_len, most));
}

std::size_t SerialOutput::write_some(std::span<const iovec> buffers) {
  const ssize_t written = write_now(buffers);
  if (written > 0) {
    asleep_ = false;
    return static_cast<std::size_t>(written);
  }
  if (written < 0 && (errno == EAGAIN || errno == EINTR) && !asleep_) {
    wait_for_reader();
    return 0;
  }
  // Nobody reads, or the write failed: the bytes are lost. A console must not stop the machine.
  return total(buffers);
}

void SerialOutput::write_waiting(std::byte byte) {
  const iovec buffer{.iov_base = &byte, .iov_len = 1};
  const ssize_t written = write_now(std::span(&buffer, 1));
  if (written == 1) asleep_ = false;
  if (written >= 0 || (errno != EAGAIN && errno != EINTR) || asleep_) return;
  asleep_ =
      !has_room(fd_.get(), static_cast<int>(kPatience.count())) || write_now(std::span(&buffer, 1)) != 1;
}

void SerialOutput::attach(SerialSink* sink) {
  const MutexLock lock(mutex_);
  sink_ = sink;
}

void SerialOutput::wait_for_reader() {
  if (waiting_.exchange(true)) return;
  // Where it cannot be watched, it is tried again when patience ends.
  if (const auto watched = loop_.watch_writable(fd_.get(), [this] { go_on(/*writable=*/true); }); !watched)
    log::debug("serial port: no word of its reader: {}", watched.error().message);
  patience_->set(kPatience);
}

void SerialOutput::stop_waiting() {
  if (!waiting_) return;
  patience_->set({});
  loop_.unwatch(fd_.get());
  waiting_ = false;
}

/// On the loop's thread.
void SerialOutput::go_on(bool writable) {
  stop_waiting();
  asleep_ = !writable;
  const MutexLock lock(mutex_);
  if (sink_ != nullptr) sink_->transmit_ready();
}

}  // namespace balloon::vmm
