#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <thread>

#include "vmm/devices/serial/backend.h"
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

TEST_F(SerialBackendTest, AFileThatCannotBeOpenedIsAnErrorWithItsName) {
  const auto backend = SerialBackend::create({Kind::file, directory / "missing" / "log"}, *loop);
  EXPECT_THAT(error_of(backend), HasSubstr("missing/log"));
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
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
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
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
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

TEST_F(SerialBackendTest, AClientThatDoesNotReadHoldsNobodyUp) {
  const auto backend = SerialBackend::create({Kind::unix_socket, socket}, *loop);
  ASSERT_TRUE(backend) << error_of(backend);
  const UniqueFd client = dial(socket);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
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

}  // namespace
}  // namespace balloon::vmm::test
