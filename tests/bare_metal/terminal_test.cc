// SPDX-License-Identifier: Apache-2.0
// The program at a terminal, and without one: its keys, and its start in the background. On this host's KVM.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <regex>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "tests/bare_metal/line.h"
#include "tests/integration/process.h"
#include "tests/unit/vmm/machine/bare_kernel.h"

namespace balloon::vmm::test {
namespace {

using balloon::test::eventually;
using balloon::test::read_text;
using balloon::test::TemporaryDirectory;
using testing::HasSubstr;
using testing::Not;

/// Sends back what it is sent, each byte as two letters from 'a' on.
Code echo() {
  return Code()
      .print("ready")
      .raw({0x66, 0xba, 0xfd, 0x03})                    // again: mov dx, line status
      .raw({0xec, 0xa8, 0x01, 0x74, 0xfb})              // in al, dx; test al, data ready; jz to the in
      .raw({0x66, 0xba, 0xf8, 0x03, 0xec, 0x88, 0xc4})  // mov dx, data; in al, dx; mov ah, al
      .raw({0xc0, 0xe8, 0x04, 0x04, 0x61, 0xee})        // shr al, 4; add al, 'a'; out dx, al
      .raw({0x88, 0xe0, 0x24, 0x0f, 0x04, 0x61, 0xee})  // mov al, ah; and al, 15; add al, 'a'; out dx, al
      .raw({0xeb, 0xe1});                               // jmp again
}

/// The program at a terminal of its own.
class AtTerminal {
 public:
  explicit AtTerminal(std::vector<std::string> command) {
    int terminal = -1;
    pid_ = ::forkpty(&terminal, nullptr, nullptr, nullptr);
    if (pid_ == 0) {
      std::vector<char*> raw;
      for (std::string& argument : command) raw.push_back(argument.data());
      raw.push_back(nullptr);
      ::execv(raw[0], raw.data());
      ::_exit(127);
    }
    terminal_ = UniqueFd(terminal);
  }
  ~AtTerminal() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  AtTerminal(const AtTerminal&) = delete;
  AtTerminal& operator=(const AtTerminal&) = delete;

  void type(const std::string& keys) const {
    ASSERT_EQ(::write(terminal_.get(), keys.data(), keys.size()), static_cast<ssize_t>(keys.size()));
  }
  bool shows(const std::string& text) {
    return eventually([&] {
      read();
      return screen_.find(text) != std::string::npos;
    });
  }
  /// What the guest writes: a line of the VMM's log may come in the midst of it.
  bool guest_shows(const std::string& text) {
    static const std::regex log_line(R"(\d{4}-\d\d-\d\dT[^\n]*\n)");
    return eventually([&] {
      read();
      return std::regex_replace(screen_, log_line, "").find(text) != std::string::npos;
    });
  }
  /// Its exit status once it ended; -1: it did not.
  int wait() {
    int status = 0;
    const bool ended = eventually([&] {
      read();
      return ::waitpid(pid_, &status, WNOHANG) == pid_;
    });
    if (!ended) return -1;
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  const std::string& screen() const { return screen_; }

 private:
  void read() {
    pollfd readable{.fd = terminal_.get(), .events = POLLIN, .revents = 0};
    std::array<char, 4096> buffer{};
    while (::poll(&readable, 1, 0) == 1) {
      const ssize_t count = ::read(terminal_.get(), buffer.data(), buffer.size());
      if (count <= 0) return;
      screen_.append(buffer.data(), static_cast<std::size_t>(count));
    }
  }
  pid_t pid_ = 0;
  UniqueFd terminal_;
  std::string screen_;
};

class TerminalTest : public testing::Test {
 protected:
  std::vector<std::string> command(const Code& code, const std::vector<std::string>& more) const {
    write_kernel(directory.file("kernel"), code);
    std::vector<std::string> all{BALLOON_VMM, "--name=test", "--memory=64MiB",
                                 "--kernel=" + directory.file("kernel")};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  TemporaryDirectory directory;
};

TEST_F(TerminalTest, CtrlCIsTheGuestsAndCtrlAXEndsIt) {
  AtTerminal program(command(echo(), {}));
  ASSERT_TRUE(program.guest_shows("ready")) << program.screen();
  EXPECT_THAT(program.screen(), HasSubstr("Ctrl-A x ends it"));
  program.type("\x03\x1a!");
  EXPECT_TRUE(program.guest_shows("adbkcb")) << program.screen();
  program.type("\x01h");
  EXPECT_TRUE(program.shows("sends Ctrl-A")) << program.screen();
  program.type("\x01\x01!");
  EXPECT_TRUE(program.guest_shows("abcb")) << program.screen();
  program.type("\x01x");
  EXPECT_EQ(program.wait(), 0) << program.screen();
}

TEST_F(TerminalTest, SignalsOfTheTerminalCanBeAskedFor) {
  AtTerminal program(command(echo(), {"--serial=stdio,keys=signals"}));
  ASSERT_TRUE(program.guest_shows("ready")) << program.screen();
  program.type("\x01x");
  EXPECT_TRUE(program.shows("abhi")) << "both are the guest's: " << program.screen();
  program.type("\x03");
  EXPECT_EQ(program.wait(), 0) << program.screen();
}

TEST_F(TerminalTest, AStartInTheBackgroundReturnsOnceTheGuestRunsAndItsMonitorIsThere) {
  const auto started = balloon::test::run(command(
      Code().raw({0xeb, 0xfe}), {"--serial=none", "--daemonize", "--pid-file=" + directory.file("pid"),
                                 "--monitor=" + directory.file("monitor")}));
  ASSERT_EQ(started.exit_code, 0) << started.err;
  const pid_t pid = std::stoi(read_text(directory.file("pid")));
  EXPECT_EQ(::kill(pid, 0), 0);
  EXPECT_EQ(::getsid(pid), pid) << "no terminal can hang up on it";
  EXPECT_EQ(std::filesystem::read_symlink("/proc/" + std::to_string(pid) + "/fd/0"), "/dev/null");
  Line monitor(directory.file("monitor"));
  EXPECT_NE(monitor.line_with("QMP"), "");
  monitor.send(R"({"execute":"qmp_capabilities"}{"execute":"quit"})");
  EXPECT_TRUE(eventually([&] { return !std::filesystem::exists(directory.file("pid")); }));
}

TEST_F(TerminalTest, AStartInTheBackgroundThatFailsSaysWhyAndReturnsItsStatus) {
  auto arguments = command(Code().halt(), {"--serial=none", "--daemonize", "--disk=path=/no/such/disk"});
  auto started = balloon::test::run(arguments);
  EXPECT_EQ(started.exit_code, 1);
  EXPECT_THAT(started.err, HasSubstr("/no/such/disk"));
  arguments.back() = "--serial=stdio";
  started = balloon::test::run(arguments);
  EXPECT_EQ(started.exit_code, 2);
  EXPECT_THAT(started.err, HasSubstr("--serial"));
}

}  // namespace
}  // namespace balloon::vmm::test
