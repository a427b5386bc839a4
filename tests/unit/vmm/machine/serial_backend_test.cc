// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <climits>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <thread>

#include "base/bytes.h"
#include "tests/unit/vmm/address_literals.h"
#include "tests/unit/vmm/manual_clock.h"
#include "vmm/devices/serial/backend.h"
#include "vmm/devices/serial/file_limit.h"
#include "vmm/devices/serial/uart.h"

namespace balloon::vmm::test {
namespace {

using Kind = SerialConfig::Kind;
using testing::HasSubstr;

class SerialBackendTest : public testing::Test {
 protected:
  SerialBackendTest() { std::filesystem::create_directories(directory); }
  ~SerialBackendTest() override { std::filesystem::remove_all(directory); }

  UniqueFd dial(const std::string& path) const {
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0)
        << std::strerror(errno);
    return fd;
  }
  static bool eventually(const std::function<bool()>& condition) {
    for (int i = 0; i < 5000; ++i) {
      if (condition()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return false;
  }
  static std::string error_of(const Result<std::unique_ptr<SerialBackend>>& result) {
    return result ? "no error" : result.error().message;
  }

  std::filesystem::path directory =
      std::filesystem::temp_directory_path() / ("serial-test-" + std::to_string(::getpid()));
  std::string socket = directory / "console";
  std::unique_ptr<EventLoop> loop = std::move(*EventLoop::create("test-loop"));
};

/// A UART whose receive FIFO the test reads, on a backend.
struct Port {
  explicit Port(SerialBackend& backend)
      : uart({.transmit = [](std::byte) {},
              .interrupt = [] {},
              .receive_ready = [&backend] { backend.resume_input(); }}) {}
  std::string take() {
    std::string text;
    std::byte status{};
    for (uart.bus_read(5, std::span(&status, 1)); (status & std::byte{1}) != std::byte{0};
         uart.bus_read(5, std::span(&status, 1))) {
      std::byte byte{};
      uart.bus_read(0, std::span(&byte, 1));
      text += static_cast<char>(byte);
    }
    return text;
  }
  Uart uart;
};

TEST_F(SerialBackendTest, AFileGetsWhatTheGuestSends) {
  const std::string path = directory / "log";
  const auto backend = SerialBackend::create({Kind::file, path}, *loop);
  ASSERT_TRUE(backend) << error_of(backend);
  for (const char c : std::string("line\n")) (*backend)->transmit(std::byte{static_cast<std::uint8_t>(c)});
  std::ifstream file(path);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), "line\n");
}

TEST_F(SerialBackendTest, AFileThatIsFullIsBegunAnewAndKeptOnce) {
  const std::string path = directory / "log";
  const auto backend = SerialBackend::create({Kind::file, path}, *loop);
  ASSERT_TRUE(backend) << error_of(backend);
  std::string text(1_MiB, 'x');
  const iovec buffer{.iov_base = text.data(), .iov_len = text.size()};
  for (Bytes sent{}; sent < 2 * kMostInFile; sent += Bytes{text.size()})
    ASSERT_EQ((*backend)->transmit_some(std::span(&buffer, 1)), text.size());
  (*backend)->transmit(std::byte{'y'});
  EXPECT_EQ(std::filesystem::file_size(path), 1U);
  EXPECT_EQ(std::filesystem::file_size(path + ".1"), kMostInFile.count());
}

TEST_F(SerialBackendTest, AFileThatWasAllButFullBeforeIsBegunAnewToo) {
  const std::string path = directory / "log";
  std::ofstream(path).close();
  std::filesystem::resize_file(path, kMostInFile.count() - 1);
  const auto backend = SerialBackend::create({Kind::file, path}, *loop);
  ASSERT_TRUE(backend) << error_of(backend);
  (*backend)->transmit(std::byte{'x'});
  EXPECT_EQ(std::filesystem::file_size(path), kMostInFile.count());
  (*backend)->transmit(std::byte{'y'});
  EXPECT_EQ(std::filesystem::file_size(path), 1U);
  EXPECT_EQ(std::filesystem::file_size(path + ".1"), kMostInFile.count());
}

TEST_F(SerialBackendTest, AFullFileThatCannotBeKeptIsEmptied) {
  const std::string path = directory / "log";
  const UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  ASSERT_EQ(::ftruncate(file.get(), static_cast<off_t>(kMostInFile)), 0);
  const auto backend = SerialBackend::create({Kind::file, path}, *loop);
  ASSERT_TRUE(backend) << error_of(backend);
  std::filesystem::remove(path);
  (*backend)->transmit(std::byte{'y'});
  struct stat status = {};
  ASSERT_EQ(::fstat(file.get(), &status), 0);
  EXPECT_EQ(status.st_size, 1);
}

TEST_F(SerialBackendTest, AFileThatTwoVcpusFillAtOnceIsBegunAnewOnceEachTime) {
  const std::string path = directory / "log";
  const auto backend = SerialBackend::create({Kind::file, path}, *loop);
  ASSERT_TRUE(backend) << error_of(backend);
  const auto vcpu = [&] {
    std::string text(16_KiB, 'x');
    const iovec buffer{.iov_base = text.data(), .iov_len = text.size()};
    for (Bytes sent{}; sent < 3 * kMostInFile / 2; sent += Bytes{text.size()})
      (*backend)->transmit_some(std::span(&buffer, 1));
  };
  std::thread one(vcpu), other(vcpu);
  one.join();
  other.join();
  EXPECT_EQ(std::filesystem::file_size(path), kMostInFile.count());
  EXPECT_EQ(std::filesystem::file_size(path + ".1"), kMostInFile.count());
}

TEST_F(SerialBackendTest, AFileThatCannotBeOpenedIsAnErrorWithItsName) {
  const auto backend = SerialBackend::create({Kind::file, directory / "missing" / "log"}, *loop);
  EXPECT_THAT(error_of(backend), HasSubstr("missing/log"));
}

/// Counts how often the backend says that it may be tried again.
struct Waiting final : SerialSink {
  std::size_t receive_room() const override { return 0; }
  void receive(std::span<const std::byte>) override {}
  void transmit_ready() override { ++ready; }
  std::atomic<int> ready = 0;
};

std::size_t transmit(SerialBackend& backend, std::string text) {
  const iovec buffer{.iov_base = text.data(), .iov_len = text.size()};
  return backend.transmit_some(std::span(&buffer, 1));
}

/// Each way to write to somebody who may not read, and the reader's end of it.
TEST_F(SerialBackendTest, AReaderThatIsBehindIsWaitedForAndNothingIsLost) {
  const std::string fifo = directory / "fifo", link = directory / "tty";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  const UniqueFd fifo_end(::open(fifo.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  for (const SerialConfig& config : {SerialConfig{Kind::file, fifo}, SerialConfig{Kind::unix_socket, socket},
                                     SerialConfig{Kind::pty, link}}) {
    const auto backend = SerialBackend::create(config, *loop);
    ASSERT_TRUE(backend) << error_of(backend);
    Waiting sink;
    (*backend)->attach(&sink);
    UniqueFd other;
    if (config.kind == Kind::unix_socket) other = dial(socket);
    if (config.kind == Kind::pty) other = UniqueFd(::open(link.c_str(), O_RDONLY | O_NOCTTY | O_CLOEXEC));
    const int reader = config.kind == Kind::file ? fifo_end.get() : other.get();
    if (config.kind == Kind::unix_socket) {  // until it is connected, output goes nowhere
      ASSERT_TRUE(eventually([&] {
        char c = 0;
        transmit(**backend, "x");
        return ::recv(reader, &c, 1, MSG_DONTWAIT) == 1;
      }));
    }

    std::string sent, seen;
    const auto start = std::chrono::steady_clock::now();
    for (std::size_t took = 1; took != 0 && sent.size() < 16_MiB;) {
      const std::string piece(8192, static_cast<char>('a' + sent.size() / 8192 % 26));
      took = transmit(**backend, piece);
      sent += piece.substr(0, took);
    }
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(2)) << "it never waits";
    ASSERT_LT(sent.size(), 16_MiB);
    // The kernel moves what is in a pseudo-terminal on, a buffer further, which makes room by itself.
    if (config.kind != Kind::pty) {
      EXPECT_EQ(sink.ready, 0);
    }
    std::array<char, 65536> buffer{};
    while (seen.size() < sent.size()) {
      const ssize_t count = ::read(reader, buffer.data(), std::min(buffer.size(), sent.size() - seen.size()));
      if (count > 0) seen.append(buffer.data(), static_cast<std::size_t>(count));
      if (count <= 0) break;
    }
    EXPECT_TRUE(seen == sent) << seen.size() << " of " << sent.size();
    EXPECT_TRUE(eventually([&] { return sink.ready == 1; })) << "kind " << static_cast<int>(config.kind);
    EXPECT_EQ(transmit(**backend, "more"), 4U);
    (*backend)->attach(nullptr);
  }
}

TEST_F(SerialBackendTest, AReaderThatSleepsIsWaitedForOnceAndThenLosesOutputUntilItWakes) {
  const std::string fifo = directory / "fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  const UniqueFd reader(::open(fifo.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  const auto backend = SerialBackend::create({Kind::file, fifo}, *loop);
  ASSERT_TRUE(backend) << error_of(backend);
  Waiting sink;
  (*backend)->attach(&sink);
  const std::string piece(65536, 'x');
  while (transmit(**backend, piece) != 0) {
  }
  ASSERT_TRUE(eventually([&] { return sink.ready == 1; })) << "its patience ends";
  for (int i = 0; i < 100; ++i) EXPECT_EQ(transmit(**backend, piece), piece.size()) << "dropped";
  EXPECT_EQ(sink.ready, 1);
  std::array<char, 65536> buffer{};
  while (::read(reader.get(), buffer.data(), buffer.size()) > 0) {
  }
  EXPECT_EQ(transmit(**backend, "awake"), 5U);
  EXPECT_EQ(::read(reader.get(), buffer.data(), buffer.size()), 5);
  std::size_t took = 1;
  for (int i = 0; i < 100 && took != 0; ++i) took = transmit(**backend, piece);
  EXPECT_EQ(took, 0U) << "it is waited for again";
  EXPECT_TRUE(eventually([&] { return sink.ready == 2; }));
  for (Bytes sent{}; sent <= kMostInFile; sent += Bytes{piece.size()}) transmit(**backend, piece);
  EXPECT_FALSE(std::filesystem::exists(fifo + ".1")) << "a pipe is never full as a file is";
  (*backend)->attach(nullptr);
}

/// An output on a loop whose time stands still, and a sink that counts.
class SerialOutputTest : public testing::Test {
 protected:
  struct Pipe {
    explicit Pipe(int flags = O_CLOEXEC | O_NONBLOCK) {
      std::array<int, 2> ends{};
      EXPECT_EQ(::pipe2(ends.data(), flags), 0);
      reader = UniqueFd(ends[0]);
      writer = UniqueFd(ends[1]);
    }
    void fill() const {
      const std::array<char, 4096> page{};
      while (::write(writer.get(), page.data(), page.size()) > 0) {
      }
    }
    std::string drain() const {
      std::string text(1 << 20, 0);
      const ssize_t count = ::read(reader.get(), text.data(), text.size());
      text.resize(static_cast<std::size_t>(std::max<ssize_t>(count, 0)));
      return text;
    }
    UniqueFd reader, writer;
  };
  SerialOutputTest() { output->attach(&sink); }
  ~SerialOutputTest() override { output->attach(nullptr); }
  std::size_t write(std::string text) const {
    const std::array buffers = {iovec{}, iovec{.iov_base = text.data(), .iov_len = text.size()}};
    return output->write_some(buffers);
  }
  std::chrono::steady_clock::duration time_to_send(char c) const {
    const auto start = std::chrono::steady_clock::now();
    output->write_waiting(static_cast<std::byte>(c));
    return std::chrono::steady_clock::now() - start;
  }

  ManualClock clock;
  std::unique_ptr<EventLoop> loop = std::move(*EventLoop::create("test-loop", clock));
  Waiting sink;
  std::unique_ptr<SerialOutput> output = std::move(*SerialOutput::create(*loop));
};

TEST_F(SerialOutputTest, AReaderThatWokeIsToldOfOnce) {
  const Pipe pipe;
  pipe.fill();
  output->follow(pipe.writer.get());
  ASSERT_EQ(write("x"), 0U);
  pipe.drain();
  catch_up(*loop);
  EXPECT_EQ(sink.ready, 1);
  clock.advance(10 * SerialOutput::kPatience);
  catch_up(*loop);
  EXPECT_EQ(sink.ready, 1);
}

TEST_F(SerialOutputTest, TheNextReaderIsWaitedForThoughTheLastOneSlept) {
  const Pipe pipe, next;
  pipe.fill();
  next.fill();
  output->follow(pipe.writer.get());
  ASSERT_EQ(write("x"), 0U);
  clock.advance(SerialOutput::kPatience);
  catch_up(*loop);
  ASSERT_EQ(sink.ready, 1);
  ASSERT_EQ(write("x"), 1U) << "dropped";
  output->follow(next.writer.get());
  EXPECT_EQ(write("x"), 0U);
}

TEST_F(SerialOutputTest, AByteWaitsForASleepingReaderOnceUntilItWakes) {
  const Pipe pipe;
  pipe.fill();
  output->follow(pipe.writer.get());
  EXPECT_GE(time_to_send('x'), SerialOutput::kPatience);
  std::chrono::steady_clock::duration others{};
  for (int i = 0; i < 50; ++i) others += time_to_send('x');
  EXPECT_LT(others, 25 * SerialOutput::kPatience);
  pipe.drain();
  time_to_send('y');
  EXPECT_EQ(pipe.drain(), "y");
  pipe.fill();
  EXPECT_GE(time_to_send('x'), SerialOutput::kPatience) << "it woke in between";
}

TEST_F(SerialOutputTest, WhatCannotBeOpenedOnceMoreGetsWhatIsSureToGo) {  // a terminal of another user
  Pipe pipe(O_CLOEXEC);
  const UniqueFd master(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
  ASSERT_EQ(::unlockpt(master.get()), 0);
  const UniqueFd terminal(::open(::ptsname(master.get()), O_RDWR | O_NOCTTY | O_CLOEXEC));
  ASSERT_EQ(::fchmod(pipe.writer.get(), 0), 0);
  ASSERT_EQ(::fchmod(terminal.get(), 0), 0);
  const uid_t user = ::geteuid();
  const auto follow = [&](int fd) {
    EXPECT_EQ(::seteuid(user == 0 ? 65534 : user), 0) << "root may open anything";
    output->follow(fd);
    EXPECT_EQ(::seteuid(user), 0);
  };
  follow(terminal.get());
  EXPECT_EQ(write("abc"), 1U);
  follow(pipe.writer.get());
  const std::string text(2 * PIPE_BUF, 'x');
  EXPECT_EQ(write(text), std::size_t{PIPE_BUF});
  std::size_t took = 1;
  for (int i = 0; i < 1000 && took != 0; ++i) took = write(text);
  EXPECT_EQ(took, 0U) << "and never waits";
  ::signal(SIGPIPE, SIG_IGN);
  pipe.reader.reset();
  EXPECT_EQ(write(text), text.size()) << "nobody reads";
  ::signal(SIGPIPE, SIG_DFL);
}

TEST_F(SerialBackendTest, APipeThatOthersWriteToStaysAsItIsAndIsNeverWaitedFor) {  // standard output
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  const UniqueFd reader(ends[0]), writer(ends[1]);
  const auto output = SerialOutput::create(*loop);
  ASSERT_TRUE(output);
  (*output)->follow(writer.get());
  EXPECT_EQ(::fcntl(writer.get(), F_GETFL) & O_NONBLOCK, 0) << "it is not ours to change";
  const auto start = std::chrono::steady_clock::now();
  std::string text(1_MiB, 'x');
  const iovec buffer{.iov_base = text.data(), .iov_len = text.size()};
  while ((*output)->write_some(std::span(&buffer, 1)) != 0) {
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(2));
}

TEST_F(SerialBackendTest, ASocketClientTalksToTheGuestBothWays) {
  const auto backend = SerialBackend::create({Kind::unix_socket, socket}, *loop);
  ASSERT_TRUE(backend) << error_of(backend);
  Port port(**backend);
  (*backend)->attach(&port.uart);
  const UniqueFd client = dial(socket);
  ASSERT_EQ(::write(client.get(), "in", 2), 2);
  std::string received;
  EXPECT_TRUE(eventually([&] { return (received += port.take()) == "in"; })) << received;
  (*backend)->transmit(std::byte{'o'});
  char c = 0;
  EXPECT_EQ(::read(client.get(), &c, 1), 1);
  EXPECT_EQ(c, 'o');
  (*backend)->attach(nullptr);
}

TEST_F(SerialBackendTest, AFloodOfInputWaitsForTheGuestAndIsNotLost) {
  const auto backend = SerialBackend::create({Kind::unix_socket, socket}, *loop);
  ASSERT_TRUE(backend) << error_of(backend);
  Port port(**backend);
  (*backend)->attach(&port.uart);
  const UniqueFd client = dial(socket);
  std::string flood;
  for (int i = 0; i < 4000; ++i) flood += static_cast<char>('a' + i % 26);
  ASSERT_EQ(::write(client.get(), flood.data(), flood.size()), static_cast<ssize_t>(flood.size()));
  std::string received;
  EXPECT_TRUE(eventually([&] { return (received += port.take()).size() >= flood.size(); }))
      << received.size();
  EXPECT_EQ(received, flood);
  (*backend)->attach(nullptr);
}

TEST_F(SerialBackendTest, InputBeforeTheMachineWaitsForIt) {
  const auto backend = SerialBackend::create({Kind::unix_socket, socket}, *loop);
  ASSERT_TRUE(backend) << error_of(backend);
  const UniqueFd client = dial(socket);
  ASSERT_EQ(::write(client.get(), "early", 5), 5);
  catch_up(*loop);
  Port port(**backend);
  (*backend)->attach(&port.uart);
  std::string received;
  EXPECT_TRUE(eventually([&] { return (received += port.take()) == "early"; })) << received;
  (*backend)->attach(nullptr);
}

TEST_F(SerialBackendTest, ASecondClientIsToldThatThePortIsTaken) {
  const auto backend = SerialBackend::create({Kind::unix_socket, socket}, *loop);
  ASSERT_TRUE(backend) << error_of(backend);
  {
    const UniqueFd first = dial(socket);
    catch_up(*loop);
    const UniqueFd second = dial(socket);
    std::array<char, 200> text{};
    const ssize_t count = ::read(second.get(), text.data(), text.size());
    ASSERT_GT(count, 0);
    EXPECT_THAT(std::string(text.data(), static_cast<std::size_t>(count)), HasSubstr("another client"));
    EXPECT_EQ(::read(second.get(), text.data(), text.size()), 0) << "and hung up on";
  }
  // The first left: the next is served.
  EXPECT_TRUE(eventually([&] {
    const UniqueFd third = dial(socket);
    timeval wait{.tv_sec = 0, .tv_usec = 20'000};
    ::setsockopt(third.get(), SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    char c = 0;
    return ::read(third.get(), &c, 1) < 0;
  }));
}

TEST_F(SerialBackendTest, AClientThatLeftWhileTheGuestTookNoInputMakesRoomForTheNext) {
  const auto backend = SerialBackend::create({Kind::unix_socket, socket}, *loop);
  ASSERT_TRUE(backend) << error_of(backend);
  {
    const UniqueFd first = dial(socket);
    ASSERT_EQ(::write(first.get(), "early", 5), 5);
    catch_up(*loop);
    catch_up(*loop);
  }
  const UniqueFd second = dial(socket);
  catch_up(*loop);
  catch_up(*loop);
  (*backend)->transmit(std::byte{'o'});
  char c = 0;
  EXPECT_EQ(::read(second.get(), &c, 1), 1);
  EXPECT_EQ(c, 'o') << "and not that the port is taken";
}

TEST_F(SerialBackendTest, WithoutAClientOutputGoesNowhereAndNobodyWaits) {
  const auto backend = SerialBackend::create({Kind::unix_socket, socket}, *loop);
  ASSERT_TRUE(backend) << error_of(backend);
  EXPECT_EQ(transmit(**backend, "text"), 4U);
}

/// Takes as much as comes.
struct Roomy final : SerialSink {
  std::size_t receive_room() const override { return 1_MiB; }
  void receive(std::span<const std::byte> bytes) override { received += bytes.size(); }
  std::atomic<std::size_t> received = 0;
};

TEST_F(SerialBackendTest, ASinkWithMuchRoomGetsAFloodPieceByPiece) {
  const auto backend = SerialBackend::create({Kind::unix_socket, socket}, *loop);
  ASSERT_TRUE(backend) << error_of(backend);
  Roomy sink;
  (*backend)->attach(&sink);
  const UniqueFd client = dial(socket);
  const std::string flood(64_KiB, 'x');
  ASSERT_EQ(::write(client.get(), flood.data(), flood.size()), static_cast<ssize_t>(flood.size()));
  EXPECT_TRUE(eventually([&] { return sink.received == flood.size(); })) << sink.received;
  (*backend)->attach(nullptr);
}

TEST_F(SerialBackendTest, AClientThatDoesNotReadHoldsNobodyUp) {
  const auto backend = SerialBackend::create({Kind::unix_socket, socket}, *loop);
  ASSERT_TRUE(backend) << error_of(backend);
  const UniqueFd client = dial(socket);
  catch_up(*loop);
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 100'000; ++i) (*backend)->transmit(std::byte{'x'});
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
}

TEST_F(SerialBackendTest, ASocketPathThatIsTooLongIsRefusedWithItsLimit) {
  const auto backend = SerialBackend::create({Kind::unix_socket, directory / std::string(120, 'x')}, *loop);
  EXPECT_THAT(error_of(backend), HasSubstr("1 to 107"));
}

TEST_F(SerialBackendTest, ASocketThatAnotherProcessServesIsLeftAlone) {
  const auto first = SerialBackend::create({Kind::unix_socket, socket}, *loop);
  ASSERT_TRUE(first) << error_of(first);
  const auto second = SerialBackend::create({Kind::unix_socket, socket}, *loop);
  EXPECT_THAT(error_of(second), HasSubstr("already served"));
  EXPECT_TRUE(std::filesystem::exists(socket));
}

TEST_F(SerialBackendTest, AStaleSocketIsReplaced) {
  {
    const UniqueFd dead(::socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, socket.data(), socket.size());
    ASSERT_EQ(::bind(dead.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  const auto backend = SerialBackend::create({Kind::unix_socket, socket}, *loop);
  EXPECT_TRUE(backend) << error_of(backend);
}

TEST_F(SerialBackendTest, AFileInTheSocketsPlaceIsNotDeleted) {
  std::ofstream(socket) << "precious";
  const auto backend = SerialBackend::create({Kind::unix_socket, socket}, *loop);
  EXPECT_THAT(error_of(backend), HasSubstr("no socket"));
  EXPECT_EQ(std::filesystem::file_size(socket), 8U);
}

TEST_F(SerialBackendTest, TheSocketGoesWithTheBackend) {
  ASSERT_TRUE(SerialBackend::create({Kind::unix_socket, socket}, *loop));
  EXPECT_FALSE(std::filesystem::exists(socket));
}

TEST_F(SerialBackendTest, APseudoTerminalCarriesBytesBothWaysAndItsLinkGoesWithIt) {
  const std::string link = directory / "tty";
  auto backend = SerialBackend::create({Kind::pty, link}, *loop);
  ASSERT_TRUE(backend) << backend.error().message;
  Port port(**backend);
  (*backend)->attach(&port.uart);
  const UniqueFd terminal(::open(link.c_str(), O_RDWR | O_NOCTTY | O_NONBLOCK));
  ASSERT_TRUE(terminal);
  (*backend)->transmit(std::byte{'h'});
  char letter = 0;
  EXPECT_TRUE(eventually([&] { return ::read(terminal.get(), &letter, 1) == 1; }));
  EXPECT_EQ(letter, 'h');
  ASSERT_EQ(::write(terminal.get(), "ls", 2), 2);
  std::string taken;
  EXPECT_TRUE(eventually([&] { return (taken += port.take()) == "ls"; }));
  (*backend)->attach(nullptr);
  backend->reset();
  EXPECT_FALSE(std::filesystem::is_symlink(link));
}

TEST_F(SerialBackendTest, APseudoTerminalServesOneAfterAnotherUnderALinkThatWasLeft) {
  const std::string link = directory / "tty";
  std::filesystem::create_symlink("/dev/pts/of-another-life", link);
  const auto backend = SerialBackend::create({Kind::pty, link}, *loop);
  ASSERT_TRUE(backend) << error_of(backend);
  Port port(**backend);
  (*backend)->attach(&port.uart);
  for (const char* typed : {"one", "two"}) {
    UniqueFd terminal(::open(link.c_str(), O_RDWR | O_NOCTTY));
    ASSERT_EQ(::write(terminal.get(), typed, 3), 3);
    std::string taken;
    EXPECT_TRUE(eventually([&] { return (taken += port.take()) == typed; })) << taken;
    terminal.reset();
    catch_up(*loop);
  }
  (*backend)->attach(nullptr);
}

/// A process that starts a session of its own, with a terminal.
class Session {
 public:
  Session() {
    ::setsid();
    master_ = UniqueFd(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK));
    ::unlockpt(master_.get());
    const UniqueFd terminal(::open(::ptsname(master_.get()), O_RDWR));  // the session's from now on
    ::dup2(terminal.get(), STDIN_FILENO);
    ::dup2(terminal.get(), STDOUT_FILENO);
  }
  void type(const std::string& keys) const {
    if (::write(master_.get(), keys.data(), keys.size()) < 0) std::abort();
  }
  bool shows(const std::string& text) {
    return eventually([&] {
      std::array<char, 4096> buffer{};
      const ssize_t count = ::read(master_.get(), buffer.data(), buffer.size());
      if (count > 0) screen_.append(buffer.data(), static_cast<std::size_t>(count));
      return screen_.find(text) != std::string::npos;
    });
  }
  static bool eventually(const std::function<bool()>& condition) {
    for (int i = 0; i < 5000; ++i) {
      if (condition()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return false;
  }

 private:
  UniqueFd master_;
  std::string screen_;
};

/// A machine whose serial port is on standard input and output; in a process of its own.
struct StdioMachine {
  explicit StdioMachine(SerialConfig::Keys keys)
      : backend(std::move(*SerialBackend::create({.kind = Kind::stdio, .keys = keys}, *loop))) {
    backend->attach(&port.uart);
  }
  ~StdioMachine() { backend->attach(nullptr); }
  bool gets(const std::string& keys) {
    std::string taken;
    return Session::eventually([&] { return (taken += port.take()) == keys; });
  }
  std::unique_ptr<EventLoop> loop = std::move(*EventLoop::create("test-loop"));
  std::unique_ptr<SerialBackend> backend;
  Port port{*backend};
};

[[noreturn]] void end_with(bool good) { ::_exit(good ? 0 : 1); }
using testing::ExitedWithCode;
using testing::KilledBySignal;
using Keys = SerialConfig::Keys;

TEST(StdioDeathTest, CtrlAXEndsTheMachine) {
  EXPECT_EXIT(
      {
        const Session session;
        StdioMachine machine(Keys::escape);
        session.type("\x01x");
        end_with(machine.gets("never"));
      },
      KilledBySignal(SIGTERM), "");
}

TEST(StdioDeathTest, AllOtherKeysAreTheGuestsAndWhatItSaysIsShown) {
  EXPECT_EXIT(
      {
        Session session;
        StdioMachine machine(Keys::escape);
        session.type("\x03\x1a\x01\x01\x01h!");
        if (!machine.gets("\x03\x1a\x01!") || !session.shows("sends Ctrl-A")) end_with(false);
        machine.backend->transmit(std::byte{'+'});
        end_with(session.shows("+"));
      },
      ExitedWithCode(0), "");
}

TEST(StdioDeathTest, RawKeysAreAllTheGuests) {
  EXPECT_EXIT(
      {
        const Session session;
        StdioMachine machine(Keys::raw);
        session.type("\x01x\x03");
        end_with(machine.gets("\x01x\x03"));
      },
      ExitedWithCode(0), "");
}

TEST(StdioDeathTest, KeysThatAreSignalsReachTheVmm) {
  EXPECT_EXIT(
      {
        const Session session;
        StdioMachine machine(Keys::signals);
        session.type("\x01x");
        if (!machine.gets("\x01x")) end_with(false);
        session.type("\x03");
        end_with(machine.gets("never"));
      },
      KilledBySignal(SIGINT), "");
}

TEST(StdioDeathTest, WhatIsNoTerminalHasNoKeys) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  const UniqueFd reader(ends[0]), writer(ends[1]);
  EXPECT_EXIT(
      {
        ::dup2(reader.get(), STDIN_FILENO);
        StdioMachine machine(Keys::escape);
        end_with(::write(writer.get(), "\x01x", 2) == 2 && machine.gets("\x01x"));
      },
      ExitedWithCode(0), "");
}

TEST(StdioDeathTest, TheTerminalIsInTheEndAsItWas) {
  EXPECT_EXIT(
      {
        const Session session;
        termios before{};
        termios meanwhile{};
        termios after{};
        ::tcgetattr(STDIN_FILENO, &before);
        {
          const StdioMachine machine(Keys::escape);
          ::tcgetattr(STDIN_FILENO, &meanwhile);
        }
        ::tcgetattr(STDIN_FILENO, &after);
        end_with((meanwhile.c_oflag & OPOST) != 0 && (meanwhile.c_lflag & ICANON) == 0 &&
                 after.c_lflag == before.c_lflag && after.c_iflag == before.c_iflag);
      },
      ExitedWithCode(0), "");
}

TEST(StdioDeathTest, AStartInTheBackgroundLeavesTheTerminalAlone) {  // else it is stopped (SIGTTOU)
  EXPECT_EXIT(
      {
        const Session session;
        const pid_t job = ::fork();
        if (job == 0) {
          ::setpgid(0, 0);
          const StdioMachine machine(Keys::escape);
          end_with(true);
        }
        int status = 0;
        ::waitpid(job, &status, WUNTRACED);
        ::kill(job, SIGKILL);
        end_with(WIFEXITED(status));
      },
      ExitedWithCode(0), "");
}

}  // namespace
}  // namespace balloon::vmm::test
