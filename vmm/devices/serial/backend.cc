// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/serial/backend.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <optional>
#include <system_error>
#include <utility>

#include "base/log.h"
#include "base/unix_listener.h"
#include "vmm/devices/serial/file_limit.h"
#include "vmm/devices/serial/terminal_keys.h"

namespace balloon::vmm {
namespace {

class NoBackend final : public SerialBackend {
 public:
  void transmit(std::byte) override {}
  std::size_t transmit_some(std::span<const iovec> buffers) override {
    std::size_t taken = 0;
    for (const iovec& buffer : buffers) taken += buffer.iov_len;
    return taken;
  }
};

class FileBackend final : public SerialBackend {
 public:
  static Result<std::unique_ptr<SerialBackend>> create(const std::string& path, EventLoop& loop) {
    UniqueFd fd(::open(path.c_str(), kFlags, kMode));
    // Once it is open: a pipe without a reader yet is waited for.
    if (!fd || ::fcntl(fd.get(), F_SETFL, O_APPEND | O_NONBLOCK) != 0)
      return fail_errno(fmt::format("opening the serial port's file '{}'", path), errno);
    auto output = SerialOutput::create(loop);
    if (!output) return std::unexpected(output.error());
    return std::make_unique<FileBackend>(path, std::move(fd), std::move(*output));
  }
  FileBackend(std::string path, UniqueFd fd, std::unique_ptr<SerialOutput> output)
      : path_(std::move(path)), fd_(std::move(fd)), output_(std::move(output)) {
    struct stat status = {};
    grows_ = ::fstat(fd_.get(), &status) == 0 && S_ISREG(status.st_mode);
    size_ = grows_ ? static_cast<Bytes>(status.st_size) : Bytes{0};
    output_->follow(fd_.get());
  }
  // Two vCPUs may write to one port at once.
  void transmit(std::byte byte) override {
    const MutexLock lock(mutex_);
    make_room();
    output_->write_waiting(byte);
    size_ += Bytes{1};
  }
  std::size_t transmit_some(std::span<const iovec> buffers) override {
    const MutexLock lock(mutex_);
    make_room();
    const std::size_t taken = output_->write_some(buffers);
    size_ += Bytes{taken};
    return taken;
  }
  void attach(SerialSink* sink) override { output_->attach(sink); }

 private:
  /// A guest may say as much as it likes. What a full file has is kept beside it, under one name.
  void make_room() REQUIRES(mutex_) {
    if (!grows_ || size_ < kMostInFile) return;
    size_ = Bytes{0};
    const std::string old = path_ + ".1";
    UniqueFd fresh;
    if (::rename(path_.c_str(), old.c_str()) == 0)
      fresh = UniqueFd(::open(path_.c_str(), kFlags | O_NONBLOCK, kMode));
    if (fresh) {
      fd_ = std::move(fresh);
      output_->follow(fd_.get());
    } else if (::ftruncate(fd_.get(), 0) != 0) {
      log::warning("the serial port's file '{}' is full, and cannot be emptied: {}", path_,
                   std::generic_category().message(errno));
    }
  }
  static constexpr int kFlags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY;
  static constexpr mode_t kMode = 0640;

  const std::string path_;
  bool grows_ = false;  ///< it is no device or pipe
  Mutex mutex_;
  Bytes size_ GUARDED_BY(mutex_){};
  UniqueFd fd_ GUARDED_BY(mutex_);
  std::unique_ptr<SerialOutput> output_;  ///< has a mutex of its own
};

class StdioBackend final : public SerialBackend {
 public:
  static Result<std::unique_ptr<SerialBackend>> create(SerialConfig::Keys keys, EventLoop& loop) {
    auto input = SerialInput::create(loop);
    if (!input) return std::unexpected(input.error());
    auto output = SerialOutput::create(loop);
    if (!output) return std::unexpected(output.error());
    auto backend = std::make_unique<StdioBackend>(std::move(*input), std::move(*output));
    backend->output_->follow(STDOUT_FILENO);
    if (in_background()) {
      log::info("started in the background: the guest's serial port takes no input from the terminal");
      return backend;
    }
    if (backend->make_raw(keys)) backend->take_keys(keys);
    backend->input_->follow(STDIN_FILENO, {});
    return backend;
  }
  StdioBackend(std::unique_ptr<SerialInput> input, std::unique_ptr<SerialOutput> output)
      : input_(std::move(input)), output_(std::move(output)) {}
  ~StdioBackend() override {
    input_.reset();
    if (terminal_) ::tcsetattr(STDIN_FILENO, TCSANOW, &*terminal_);
  }
  void transmit(std::byte byte) override { output_->write_waiting(byte); }
  std::size_t transmit_some(std::span<const iovec> buffers) override { return output_->write_some(buffers); }
  void attach(SerialSink* sink) override {
    input_->attach(sink);
    output_->attach(sink);
  }
  void resume_input() override { input_->resume(); }

 private:
  /// The terminal would stop a job in the background that changes its settings or reads (SIGTTOU, SIGTTIN).
  static bool in_background() {
    return ::isatty(STDIN_FILENO) != 0 && ::tcgetpgrp(STDIN_FILENO) != ::getpgrp();
  }
  /// Keys go to the guest as they are. Whether standard input is a terminal.
  bool make_raw(SerialConfig::Keys keys) {
    termios settings{};
    if (::isatty(STDIN_FILENO) == 0 || ::tcgetattr(STDIN_FILENO, &settings) != 0) return false;
    terminal_ = settings;
    ::cfmakeraw(&settings);
    if (keys == SerialConfig::Keys::signals) settings.c_lflag |= ISIG;
    settings.c_oflag |= OPOST;
    ::tcsetattr(STDIN_FILENO, TCSANOW, &settings);
    return true;
  }
  void take_keys(SerialConfig::Keys keys) {
    if (keys != SerialConfig::Keys::escape) return;
    log::info("the terminal's keys go to the guest; Ctrl-A x ends it, Ctrl-A h tells of more");
    input_->filter([this](std::span<std::byte> typed) {
      return keys_.take(typed, [](TerminalKeys::Wish wish) {
        if (wish == TerminalKeys::Wish::help) {
          [[maybe_unused]] const auto written =
              ::write(STDOUT_FILENO, TerminalKeys::kHelp.data(), TerminalKeys::kHelp.size());
        } else {
          ::kill(::getpid(), SIGTERM);
        }
      });
    });
  }

  std::unique_ptr<SerialInput> input_;
  std::unique_ptr<SerialOutput> output_;
  std::optional<termios> terminal_;
  TerminalKeys keys_;
};

bool hung_up(int socket) {
  pollfd poll{.fd = socket, .events = POLLRDHUP, .revents = 0};
  return ::poll(&poll, 1, 0) > 0 && (poll.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

class SocketBackend final : public SerialBackend {
 public:
  static Result<std::unique_ptr<SerialBackend>> create(const std::string& path, EventLoop& loop) {
    auto listener = listen_unix(path, 0660);
    if (!listener) return fail("serial port", listener.error());
    auto input = SerialInput::create(loop);
    if (!input) return std::unexpected(input.error());
    auto output = SerialOutput::create(loop);
    if (!output) return std::unexpected(output.error());
    auto backend = std::make_unique<SocketBackend>(path, std::move(*listener), std::move(*input),
                                                   std::move(*output), loop);
    BALLOON_TRY(loop.watch(backend->listener_.get(), [raw = backend.get()] { raw->on_client(); }));
    return backend;
  }
  SocketBackend(std::string path, UniqueFd listener, std::unique_ptr<SerialInput> input,
                std::unique_ptr<SerialOutput> output, EventLoop& loop)
      : path_(std::move(path)),
        listener_(std::move(listener)),
        input_(std::move(input)),
        output_(std::move(output)),
        loop_(loop) {}
  ~SocketBackend() override {
    loop_.unwatch(listener_.get());
    input_.reset();
    ::unlink(path_.c_str());
  }
  void transmit(std::byte byte) override {
    const MutexLock lock(mutex_);
    // A client that does not read loses output; the guest does not wait for it.
    if (client_) ::send(client_.get(), &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
  }
  /// Likewise, but for a moment.
  std::size_t transmit_some(std::span<const iovec> buffers) override {
    const MutexLock lock(mutex_);
    return output_->write_some(buffers);
  }
  void attach(SerialSink* sink) override {
    input_->attach(sink);
    output_->attach(sink);
  }
  void resume_input() override { input_->resume(); }

 private:
  void on_client() {
    UniqueFd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!client) return;
    const MutexLock lock(mutex_);
    // While the guest takes no input nobody reads the old client's end; look for it here.
    if (client_ && hung_up(client_.get())) {
      input_->unfollow();
      drop_client();
    }
    if (client_) {
      static constexpr std::string_view kBusy = "balloon-vmm: another client has this serial port\r\n";
      ::send(client.get(), kBusy.data(), kBusy.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      return;
    }
    client_ = std::move(client);
    output_->follow(client_.get());
    input_->follow(client_.get(), [this] {
      const MutexLock end_lock(mutex_);
      drop_client();
    });
  }
  void drop_client() REQUIRES(mutex_) {
    output_->follow(-1);
    client_.reset();
  }

  std::string path_;
  UniqueFd listener_;
  UniqueFd client_ GUARDED_BY(mutex_);
  std::unique_ptr<SerialInput> input_;
  std::unique_ptr<SerialOutput> output_;
  EventLoop& loop_;
  Mutex mutex_;  ///< of client_ and output_: vCPUs write, the loop connects
};

/// A pseudo-terminal that `screen` or `minicom` opens. Its name is logged; a symbolic link makes it findable.
class PtyBackend final : public SerialBackend {
 public:
  static Result<std::unique_ptr<SerialBackend>> create(const std::string& link, EventLoop& loop) {
    UniqueFd fd(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK));
    std::array<char, 64> name{};
    if (!fd || ::grantpt(fd.get()) != 0 || ::unlockpt(fd.get()) != 0 ||
        ::ptsname_r(fd.get(), name.data(), name.size()) != 0) {
      return fail_errno("making the serial port's pseudo-terminal", errno);
    }
    // Held open: else the guest's output is an error while nobody is connected, and input ends with the first
    // client.
    UniqueFd slave(::open(name.data(), O_RDWR | O_NOCTTY | O_CLOEXEC));
    if (!slave)
      return fail_errno(fmt::format("opening the serial port's pseudo-terminal '{}'", name.data()), errno);
    termios settings{};
    if (::tcgetattr(slave.get(), &settings) == 0) {
      ::cfmakeraw(&settings);
      ::tcsetattr(slave.get(), TCSANOW, &settings);
    }
    if (!link.empty()) {
      if (::unlink(link.c_str()) != 0 && errno != ENOENT)
        return fail_errno(fmt::format("replacing the serial port's link '{}'", link), errno);
      if (::symlink(name.data(), link.c_str()) != 0)
        return fail_errno(fmt::format("making the serial port's link '{}'", link), errno);
    }
    log::info("the serial port is {}", name.data());
    auto input = SerialInput::create(loop);
    if (!input) return std::unexpected(input.error());
    auto output = SerialOutput::create(loop);
    if (!output) return std::unexpected(output.error());
    auto backend = std::make_unique<PtyBackend>(std::move(fd), std::move(slave), link, std::move(*input),
                                                std::move(*output));
    backend->input_->follow(backend->fd_.get(), {});
    return backend;
  }
  PtyBackend(UniqueFd fd, UniqueFd slave, std::string link, std::unique_ptr<SerialInput> input,
             std::unique_ptr<SerialOutput> output)
      : fd_(std::move(fd)),
        slave_(std::move(slave)),
        link_(std::move(link)),
        input_(std::move(input)),
        output_(std::move(output)) {
    output_->follow(fd_.get());
  }
  ~PtyBackend() override {
    input_.reset();
    if (!link_.empty()) ::unlink(link_.c_str());
  }
  // What nobody reads fills the terminal's buffer, and what comes then is dropped.
  void transmit(std::byte byte) override {
    [[maybe_unused]] const auto written = ::write(fd_.get(), &byte, 1);
  }
  std::size_t transmit_some(std::span<const iovec> buffers) override { return output_->write_some(buffers); }
  void attach(SerialSink* sink) override {
    input_->attach(sink);
    output_->attach(sink);
  }
  void resume_input() override { input_->resume(); }

 private:
  UniqueFd fd_;
  UniqueFd slave_;
  std::string link_;
  std::unique_ptr<SerialInput> input_;
  std::unique_ptr<SerialOutput> output_;
};

}  // namespace

Result<std::unique_ptr<SerialBackend>> SerialBackend::create(const SerialConfig& config, EventLoop& loop) {
  switch (config.kind) {
    case SerialConfig::Kind::none:
      return std::make_unique<NoBackend>();
    case SerialConfig::Kind::stdio:
      return StdioBackend::create(config.keys, loop);
    case SerialConfig::Kind::file:
      return FileBackend::create(config.path, loop);
    case SerialConfig::Kind::unix_socket:
      return SocketBackend::create(config.path, loop);
    case SerialConfig::Kind::pty:
      return PtyBackend::create(config.path, loop);
  }
  return fail("unknown kind of serial port");
}

}  // namespace balloon::vmm
