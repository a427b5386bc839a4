// SPDX-License-Identifier: Apache-2.0
// The daemon's log while nobody reads it, and while somebody writes it full.
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#include <array>
#include <regex>

#include "tests/integration/daemon_fixture.h"
#include "tests/integration/http.h"

namespace balloon::test {
namespace {

/// A daemon whose standard error is a pipe that the test reads, or does not.
class LogPipeTest : public DaemonTest {
 protected:
  void SetUp() override {
    write_policy("");
    ASSERT_EQ(::mkfifo(directory_.file("log").c_str(), 0600), 0);
    pipe_ = ::open(directory_.file("log").c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC);
    ASSERT_GE(pipe_, 0);
    ::fcntl(pipe_, F_SETPIPE_SZ, 4096);
    directory_.write("balloond.yaml", config("metrics: {listen: \"" + metrics_ + "\"}\n"));
    daemon_ = std::make_unique<Background>(
        std::vector<std::string>{BALLOOND, "--config", directory_.file("balloond.yaml"), "--log-level",
                                 "debug"},
        directory_.file("log"));
    ASSERT_TRUE(eventually([&] { return ctl({"host"}).exit_code == 0; }));
  }
  void TearDown() override { ::close(pipe_); }

  /// What the pipe holds.
  std::string drain() {
    std::string text;
    std::array<char, 65536> part{};
    for (ssize_t count = 0; (count = ::read(pipe_, part.data(), part.size())) > 0;)
      text.append(part.data(), static_cast<std::size_t>(count));
    return text;
  }
  bool is_full() {
    const char more = '\n';
    const int writer = ::open(directory_.file("log").c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    const bool full = ::write(writer, &more, 1) < 0;
    ::close(writer);
    return full;
  }
  /// Each reload writes lines of its own, of no source that is limited.
  void fill() {
    ASSERT_TRUE(eventually([&] {
      daemon_->signal(SIGHUP);
      return is_full();
    }));
  }

  const std::string metrics_ = free_address();
  int pipe_ = -1;
};

TEST_F(LogPipeTest, AFullPipeCostsLinesAndNoDecision) {
  fill();
  FakeVmm vmm(socket(), FakeVmm::guest("a", 2 * kGiB, 2 * kGiB));
  EXPECT_TRUE(eventually([&] {
    vmm.send_stats(400 * kMiB);
    return vmm.actual() < 700 * kMiB;
  })) << "its balloon was not moved";
  EXPECT_EQ(ctl({"host"}).exit_code, 0);
  daemon_->signal(SIGTERM);
  EXPECT_EQ(daemon_->wait(), 0) << "it waits for whom its log is";
}

TEST_F(LogPipeTest, WhatWasLostIsInTheLogOnceItIsReadAgain) {
  fill();
  // Complaints about two hundred keys: some dozens of them fill the daemon's queue of 1 MiB.
  std::string nonsense;
  for (int i = 0; i < 200; ++i) nonsense += "key" + std::to_string(i) + std::string(50, 'x') + ": 1\n";
  directory_.write("balloond.yaml", nonsense);
  ASSERT_TRUE(eventually([&] {
    daemon_->signal(SIGHUP);
    return http_get(metrics_).find("lost_lines_total{reason=\"not_taken\"} 0\n") == std::string::npos;
  }));
  std::string text;
  const std::regex said("[0-9]+ lines are lost here: standard error did not take them in time");
  EXPECT_TRUE(eventually([&] {
    text += drain();
    return std::regex_search(text.substr(text.size() - std::min<std::size_t>(text.size(), 2000)), said);
  })) << text.size()
      << " bytes came";
}

TEST_F(DaemonTest, AGuestThatAlternatesBetweenSenseAndNonsenseIsHeldBackInTheLog) {
  FakeVmm vmm(socket(), FakeVmm::guest("a", 2 * kGiB, 2 * kGiB));
  v1::GuestStats nonsense;
  nonsense.set_actual_bytes(5 * kGiB);
  for (int i = 0; i < 1000; ++i) {
    vmm.send_stats(400 * kMiB);
    vmm.send_stats(nonsense);
  }
  nonsense.set_actual_bytes(7 * kGiB);
  vmm.send_stats(nonsense);
  ASSERT_TRUE(eventually([&] { return ctl({"explain", "a"}).out.find("actual 7 GiB") != std::string::npos; }))
      << "the last of them has not been judged: " << ctl({"explain", "a"}).out;
  const std::string log = daemon_->log();
  std::size_t lines = 0;
  for (std::size_t at = 0; (at = log.find("make no sense", at)) != std::string::npos; ++at) ++lines;
  EXPECT_GT(lines, 10U);
  EXPECT_LT(lines, 250U) << "a burst of 100, and then one a second";
}

}  // namespace
}  // namespace balloon::test
