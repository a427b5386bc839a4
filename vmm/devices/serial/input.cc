// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "base/log.h"
#include "vmm/devices/serial/backend.h"

namespace balloon::vmm {
namespace {

/// Read at once: a screenful of typing.
constexpr std::size_t kReadSize = 256;

}  // namespace

Result<std::unique_ptr<SerialInput>> SerialInput::create(EventLoop& loop) {
  auto input = std::unique_ptr<SerialInput>(new SerialInput(loop));
  auto event = loop.watch_event([raw = input.get()] { raw->on_resume(); });
  if (!event) return fail("making the serial port's event", event.error());
  input->resume_event_ = std::move(*event);
  return input;
}

SerialInput::~SerialInput() {
  if (resume_event_) loop_.unwatch(resume_event_.get());
  set_watched(false);
}

void SerialInput::follow(int fd, std::function<void()> on_end) {
  fd_ = fd;
  on_end_ = std::move(on_end);
  resume();
}

void SerialInput::unfollow() {
  set_watched(false);
  fd_ = -1;
}

void SerialInput::attach(SerialSink* sink) {
  {
    const MutexLock lock(mutex_);
    sink_ = sink;
  }
  if (sink != nullptr) resume();
}

void SerialInput::resume() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(resume_event_.get(), &one, sizeof(one));
}

/// Watching starts and stops on the loop's thread alone: so the two cannot overtake each other.
void SerialInput::on_resume() {
  if (fd_ >= 0) set_watched(true);
}

void SerialInput::on_readable() {
  const MutexLock lock(mutex_);
  std::array<std::byte, kReadSize> buffer;
  const std::size_t room = sink_ == nullptr ? 0 : std::min(buffer.size(), sink_->receive_room());
  if (room == 0) return set_watched(false);
  const ssize_t count = ::read(fd_, buffer.data(), room);
  if (count > 0) {
    std::span<std::byte> bytes = std::span(buffer).first(static_cast<std::size_t>(count));
    if (filter_) bytes = filter_(bytes);
    return bytes.empty() ? void() : sink_->receive(bytes);
  }
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  set_watched(false);
  fd_ = -1;
  if (on_end_) on_end_();
}

void SerialInput::set_watched(bool watched) {
  if (watched == watched_) return;
  if (!watched) {
    loop_.unwatch(fd_);
  } else if (const auto done = loop_.watch(fd_, [this] { on_readable(); }); !done) {
    log::debug("serial port: no input: {}",
               done.error().message);  // a plain file or /dev/null has no readiness
    return;
  }
  watched_ = watched;
}

}  // namespace balloon::vmm
