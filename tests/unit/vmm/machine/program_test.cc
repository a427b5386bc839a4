// SPDX-License-Identifier: Apache-2.0
// balloon-vmm as a person or a service manager meets it: exit statuses, one clear line, signals. On this
// host's KVM.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "base/unique_fd.h"
#include "tests/unit/vmm/machine/bare_kernel.h"
#include "tests/unit/vmm/virtio/fake_driver.h"
#include "vmm/arch/x86_64/layout.h"

namespace balloon::vmm::test {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

/// How often `text` occurs.
std::size_t times_in(std::string_view all, std::string_view text) {
  std::size_t times = 0;
  for (std::size_t at = all.find(text); at != std::string_view::npos; at = all.find(text, at + 1)) ++times;
  return times;
}

/// One run of the program.
class Program {
 public:
  explicit Program(std::vector<std::string> arguments) {
    std::array<int, 2> pipe{};
    if (::pipe2(pipe.data(), O_CLOEXEC) != 0) std::abort();
    errors_ = UniqueFd(pipe[0]);
    const UniqueFd write_end(pipe[1]);
    arguments.insert(arguments.begin(), BALLOON_VMM);
    std::vector<char*> raw;
    for (std::string& argument : arguments) raw.push_back(argument.data());
    raw.push_back(nullptr);
    pid_ = ::fork();
    if (pid_ != 0) return;
    const int null = ::open("/dev/null", O_RDWR);
    ::dup2(null, STDIN_FILENO);
    ::dup2(null, STDOUT_FILENO);
    ::dup2(write_end.get(), STDERR_FILENO);
    ::execv(raw[0], raw.data());
    ::_exit(127);
  }
  ~Program() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  void signal(int number) const { ::kill(pid_, number); }
  /// Its exit status; -1: a signal killed it, or it did not end within half a minute.
  int wait() {
    read_errors(std::chrono::seconds(30), "");
    int status = 0;
    for (int i = 0; i < 3000 && ::waitpid(pid_, &status, WNOHANG) == 0; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      if (i == 2999) return -1;
    }
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  /// Waits until it has written `text` to standard error, so often.
  bool says(std::string_view text, std::size_t times = 1) {
    return read_errors(std::chrono::seconds(30), text, times);
  }
  const std::string& errors() const { return said_; }

 private:
  bool read_errors(std::chrono::seconds patience, std::string_view until, std::size_t times = 1) {
    const auto end = std::chrono::steady_clock::now() + patience;
    std::array<char, 4096> buffer{};
    while (std::chrono::steady_clock::now() < end) {
      if (!until.empty() && times_in(said_, until) >= times) return true;
      pollfd poll{.fd = errors_.get(), .events = POLLIN, .revents = 0};
      if (::poll(&poll, 1, 100) <= 0) continue;
      const ssize_t count = ::read(errors_.get(), buffer.data(), buffer.size());
      if (count <= 0) return false;
      said_.append(buffer.data(), static_cast<std::size_t>(count));
    }
    return false;
  }

  pid_t pid_ = 0;
  UniqueFd errors_;
  std::string said_;
};

class ProgramTest : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directories(directory);
    write_kernel(kernel, Code().print("up").power_off());
  }
  void TearDown() override { std::filesystem::remove_all(directory); }

  std::vector<std::string> good(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments{"--name",   "test", "--memory", "64M",
                                       "--kernel", kernel, "--serial", "none"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  /// It must end with `status` and one line on standard error that has `text`.
  static void expect_refusal(const std::vector<std::string>& arguments, int status, const std::string& text) {
    Program program(arguments);
    EXPECT_EQ(program.wait(), status) << program.errors();
    EXPECT_THAT(program.errors(), StartsWith("balloon-vmm: "));
    EXPECT_THAT(program.errors(), HasSubstr(text));
    EXPECT_EQ(std::ranges::count(program.errors(), '\n'), 1) << program.errors();
  }

  std::filesystem::path directory =
      std::filesystem::temp_directory_path() / ("vmm-test-" + std::to_string(::getpid()));
  std::string kernel = directory / "kernel";
};

TEST_F(ProgramTest, AGuestThatPowersOffEndsItWithStatusZero) {
  const std::string serial = directory / "serial";
  auto arguments = good();
  arguments.back() = "file:" + serial;
  Program program(arguments);
  EXPECT_EQ(program.wait(), 0) << program.errors();
  EXPECT_THAT(program.errors(), HasSubstr("powered off"));
  std::ifstream file(serial);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), "up");
}

TEST_F(ProgramTest, ARebootingGuestStartsAgainInTheSameProcessUntilItIsTold) {
  write_kernel(kernel, Code().out8(0x64, 0xfe).halt());
  Program program(good());
  ASSERT_TRUE(program.says("reboots")) << program.errors();
  ASSERT_TRUE(program.says("runs: 64 MiB")) << program.errors();
  program.signal(SIGTERM);
  EXPECT_EQ(program.wait(), 0) << program.errors();
}

TEST_F(ProgramTest, AGuestThatRebootsKeepsItsDiskFromAnotherVmmThatWaitsForIt) {
  write_kernel(kernel, Code().out8(0x64, 0xfe).halt());
  const std::string disk = directory / "disk.img";
  std::ofstream(disk) << std::string(65536, 'x');
  Program first(good({"--disk", "path=" + disk}));
  ASSERT_TRUE(first.says("reboots")) << first.errors();
  for (int i = 0; i < 3; ++i) {
    // It waits for a second, in which the first one reboots again and again.
    expect_refusal(good({"--disk", "path=" + disk}), 1, "another VMM has it open");
  }
  first.signal(SIGTERM);
  EXPECT_EQ(first.wait(), 0) << first.errors();
  EXPECT_GT(times_in(first.errors(), "reboots"), 3U) << "it did reboot meanwhile";
}

TEST_F(ProgramTest, AGuestRebootsThoughItsFilesWereMovedOrUnlinked) {
  const std::string disk = directory / "disk.img", initrd = directory / "initrd";
  for (const bool unlinked : {true, false}) {
    write_kernel(kernel, Code().out8(0x64, 0xfe).halt());
    std::ofstream(disk) << std::string(65536, 'x');
    std::ofstream(initrd) << std::string(5000, 'y');
    Program program(good({"--disk", "path=" + disk, "--initrd", initrd}));
    ASSERT_TRUE(program.says("reboots")) << program.errors();
    for (const std::string& file : {disk, initrd, kernel}) {
      unlinked ? void(std::filesystem::remove(file)) : std::filesystem::rename(file, file + ".moved");
    }
    EXPECT_TRUE(program.says("reboots", times_in(program.errors(), "reboots") + 5)) << program.errors();
    program.signal(SIGTERM);
    EXPECT_EQ(program.wait(), 0) << program.errors();
  }
}

TEST_F(ProgramTest, AGuestThatDoesNothingButRebootIsSlowedDownAndFillsNoLog) {
  write_kernel(kernel, Code().print("x").out8(0x64, 0xfe).halt());
  auto arguments = good();
  arguments.back() = "file:" + (directory / "serial").string();
  Program program(arguments);
  ASSERT_TRUE(program.says("again and again")) << program.errors();
  const auto before = std::filesystem::file_size(directory / "serial");
  std::this_thread::sleep_for(std::chrono::seconds(3));
  EXPECT_LE(std::filesystem::file_size(directory / "serial") - before, 16U) << "lives in three seconds";
  program.signal(SIGTERM);
  EXPECT_EQ(program.wait(), 0) << program.errors();
  EXPECT_LE(times_in(program.errors(), "reboots"), 23U);
}

TEST_F(ProgramTest, NoRebootEndsItWithTheGuestsReboot) {
  write_kernel(kernel, Code().out8(0x64, 0xfe).halt());
  Program program(good({"--no-reboot"}));
  EXPECT_EQ(program.wait(), 0) << program.errors();
}

TEST_F(ProgramTest, SigtermAndSigintEndARunningGuestCleanly) {
  write_kernel(kernel, Code().raw({0xeb, 0xfe}));
  for (const int number : {SIGTERM, SIGINT}) {
    Program program(good({"--cpus", "2"}));
    ASSERT_TRUE(program.says("runs")) << program.errors();
    program.signal(number);
    EXPECT_EQ(program.wait(), 0) << program.errors();
  }
}

TEST_F(ProgramTest, SigpwrPressesThePowerButtonAndTheGuestDecidesWhatToDo) {
  write_kernel(kernel, Code().raw({0xeb, 0xfe}));  // jumps to itself: it does not listen
  Program program(good());
  ASSERT_TRUE(program.says("runs")) << program.errors();
  program.signal(SIGPWR);
  ASSERT_TRUE(program.says("power button is pressed")) << program.errors();
  program.signal(SIGTERM);
  EXPECT_EQ(program.wait(), 0) << program.errors();
  EXPECT_THAT(program.errors(), HasSubstr("signal 15: ending the guest"));
}

TEST_F(ProgramTest, AGuestThatResetsAfterSigpwrEnds) {
  // Waits until the 8259 has a request of the power button's interrupt, then resets.
  write_kernel(kernel, Code()
                           .out8(0x20, 0x0a)  // OCW3: the request register is to be read
                           .raw({0xec, 0xa8, 1U << layout::kPowerButtonIrq, 0x74, 0xfb})  // in; test; jz
                           .out8(0x64, 0xfe)
                           .halt());
  Program program(good());
  ASSERT_TRUE(program.says("runs")) << program.errors();
  program.signal(SIGPWR);
  EXPECT_EQ(program.wait(), 0) << program.errors();
  EXPECT_THAT(program.errors(), HasSubstr("was reset after its power button was pressed, so it ends"));
}

TEST_F(ProgramTest, CheckConfigJudgesAFileWithoutStartingItsGuest) {
  const std::string file = directory / "guest.yaml";
  std::ofstream(file) << "name: web-1\nmemory: 64MiB\nkernel: /no/such/kernel\ncpus: 65\n";
  Program bad({"--check-config", "--config", file});
  EXPECT_EQ(bad.wait(), 2) << bad.errors();
  EXPECT_THAT(bad.errors(), HasSubstr("cpus"));
  Program good({"--check-config", "--config", file, "--cpus", "1"});
  EXPECT_EQ(good.wait(), 0) << good.errors();
  EXPECT_EQ(good.errors(), "");
}

TEST_F(ProgramTest, HelpAndVersionSucceed) {
  EXPECT_EQ(Program({"--help"}).wait(), 0);
  EXPECT_EQ(Program({"--version"}).wait(), 0);
}

TEST_F(ProgramTest, BadFlagsAreUsageErrors) {
  expect_refusal({"--nonsense"}, 2, "--nonsense");
  expect_refusal({"extra"}, 2, "extra");
  expect_refusal({"--memory"}, 2, "--memory");
  expect_refusal({}, 2, "name is missing");
  expect_refusal({"--name", "x", "--memory", "lots", "--kernel", "k"}, 2, "'lots' is not a size");
  expect_refusal(good({"--disk", "readonly"}), 2, "no path=");
  expect_refusal(good({"--log-level", "loud"}), 2, "'loud'");
  expect_refusal(good({"--config", "/no/such/file.yaml"}), 2, "/no/such/file.yaml");
  expect_refusal(good({"--link", "/" + std::string(200, 'x')}), 2, "107 are allowed");
}

TEST_F(ProgramTest, AKernelThatIsNoneIsAStartFailure) {
  std::ofstream(kernel) << "no kernel, but a text that is long enough to be looked at";
  expect_refusal(good(), 1, kernel);
  std::ofstream(kernel, std::ios::trunc).close();
  expect_refusal(good(), 1, kernel);
  std::filesystem::remove(kernel);
  expect_refusal(good(), 1, kernel);
}

TEST_F(ProgramTest, ABadDiskIsAStartFailure) {
  const std::string disk = directory / "disk.img";
  expect_refusal(good({"--disk", "path=" + disk}), 1, disk);
  std::ofstream(disk).close();
  expect_refusal(good({"--disk", "path=" + disk}), 1, disk);
  std::ofstream(disk) << "not a multiple of 512";
  expect_refusal(good({"--disk", "path=" + disk}), 1, disk);
}

TEST_F(ProgramTest, ATapThatIsNotThereIsAStartFailure) {
  expect_refusal(good({"--net", "tap=no-such-tap"}), 1, "no-such-tap");
}

TEST_F(ProgramTest, ASerialSocketThatIsServedIsAStartFailure) {
  const std::string path = directory / "console";
  const UniqueFd server(::socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  ASSERT_EQ(::bind(server.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::listen(server.get(), 4), 0);
  auto arguments = good();
  arguments.back() = "unix:" + path;
  expect_refusal(arguments, 1, "already served");
}

/// Whole lines that are an answer, rather than the greeting or an event.
std::size_t answers_in(std::string_view said) {
  std::size_t answers = 0;
  for (std::size_t end = said.find('\n'); end != std::string_view::npos; end = said.find('\n')) {
    const std::string_view line = said.substr(0, end);
    if (line.starts_with(R"({"return")") || line.starts_with(R"({"error")")) ++answers;
    said.remove_prefix(end + 1);
  }
  return answers;
}

/// What the monitor at `path` answers to `requests`, up to the connection's end or the answer to the last of
/// them.
std::string ask_monitor(const std::string& path, const std::vector<std::string>& requests) {
  const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return "no connection";
  std::string all = R"({"execute":"qmp_capabilities"})";
  for (const std::string& request : requests) all += request;
  if (::send(fd.get(), all.data(), all.size(), MSG_NOSIGNAL) < 0) return "cannot send";
  std::string said;
  std::array<char, 4096> buffer{};
  for (;;) {
    // The answer to the handshake comes first.
    pollfd poll{.fd = fd.get(), .events = POLLIN, .revents = 0};
    if (answers_in(said) == requests.size() + 1 || ::poll(&poll, 1, 20'000) <= 0) return said;
    const ssize_t count = ::recv(fd.get(), buffer.data(), buffer.size(), 0);
    if (count <= 0) return said;
    said.append(buffer.data(), static_cast<std::size_t>(count));
  }
}

TEST_F(ProgramTest, AMonitorsClientSeesTheBalloonAndEndsTheGuest) {
  write_kernel(kernel, Code().raw({0xeb, 0xfe}));
  const std::string path = directory / "qmp";
  Program program(good({"--monitor", path}));
  ASSERT_TRUE(program.says("runs")) << program.errors();
  EXPECT_THAT(ask_monitor(path, {R"({"execute":"query-balloon"})"}), HasSubstr(R"("actual":67108864)"));
  EXPECT_THAT(ask_monitor(path, {R"({"execute":"quit"})"}), HasSubstr(R"("return":{})"));
  EXPECT_EQ(program.wait(), 0) << program.errors();
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST_F(ProgramTest, AMonitorsClientHearsOfStopAndContinueBeforeTheirAnswers) {
  write_kernel(kernel, Code().raw({0xeb, 0xfe}));
  const std::string path = directory / "qmp";
  Program program(good({"--monitor", path, "--cpus", "2"}));
  ASSERT_TRUE(program.says("runs")) << program.errors();
  for (int i = 0; i < 20; ++i) {
    const std::string said = ask_monitor(
        path, {R"({"execute":"stop"})", R"({"execute":"query-status"})", R"({"execute":"cont"})"});
    EXPECT_THAT(said, testing::ContainsRegex("(.*QMP.*\n)(.*return.*\n)"
                                             "(.*\"STOP\".*\n)(.*return.*\n)(.*\"paused\".*\n)"
                                             "(.*\"RESUME\".*\n)(.*return.*\n)"));
  }
}

TEST_F(ProgramTest, ASnapshotByTheMonitorIsRestoredByAnotherProcess) {
  // Prints 'a', waits for a byte from nowhere, that is for ever: the restored one must not print again.
  const std::string serial = directory / "serial";
  write_kernel(kernel, Code().print("a").raw({0xeb, 0xfe}));
  const std::string path = directory / "qmp";
  const std::string snapshot = directory / "snapshot";
  auto arguments = good({"--monitor", path});
  arguments[7] = "file:" + serial;
  {
    Program program(arguments);
    ASSERT_TRUE(eventually([&] {
      std::error_code none_yet;
      return std::filesystem::file_size(serial, none_yet) == 1;
    })) << program.errors();
    const std::string answers =
        ask_monitor(path, {R"({"execute":"stop"})",
                           R"({"execute":"snapshot-to-file","arguments":{"path":")" + snapshot + R"("}})",
                           R"({"execute":"quit"})"});
    EXPECT_THAT(answers, testing::Not(HasSubstr("error")));
    EXPECT_EQ(program.wait(), 0) << program.errors();
  }
  arguments.insert(arguments.end(), {"--restore", snapshot});
  Program restored(arguments);
  ASSERT_TRUE(restored.says("goes on from the snapshot")) << restored.errors();
  ASSERT_TRUE(restored.says("runs:")) << restored.errors();  // and so has its monitor
  const std::string answers = ask_monitor(
      path, {R"({"execute":"query-status"})", R"({"execute":"stop"})", R"({"execute":"cont"})",
             R"({"execute":"balloon","arguments":{"value":33554432}})", R"({"execute":"query-balloon"})"});
  EXPECT_THAT(answers, HasSubstr(R"("status":"running")"));
  EXPECT_THAT(answers, HasSubstr(R"("actual":67108864)"));
  EXPECT_THAT(answers, testing::Not(HasSubstr("error")));
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  restored.signal(SIGTERM);
  EXPECT_EQ(restored.wait(), 0) << restored.errors();
  std::ifstream file(serial);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), "a");
}

TEST_F(ProgramTest, AMonitorOrSnapshotThatCannotBeIsAStartFailure) {
  expect_refusal(good({"--monitor", "/no/such/place/qmp"}), 1, "/no/such/place/qmp");
  expect_refusal(good({"--restore", "/no/such/snapshot"}), 1, "/no/such/snapshot");
}

TEST_F(ProgramTest, AGuestThatCannotStartHasNoMonitor) {
  const std::string path = directory / "qmp";
  expect_refusal(good({"--restore", "/no/such/snapshot", "--monitor", path}), 1, "/no/such/snapshot");
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST_F(ProgramTest, TheShippedExampleIsAcceptedButForItsFiles) {
  // Its files do not exist here. That one of them is all it complains about shows that everything else was
  // taken.
  const std::string example = BALLOON_SOURCE "/config/guest.yaml";
  expect_refusal({"--config", example, "--kernel", kernel, "--initrd", kernel, "--serial", "none", "--disk",
                  "path=/no/such/disk.img"},
                 1, "/no/such/disk.img");
}

}  // namespace
}  // namespace balloon::vmm::test
