// SPDX-License-Identifier: Apache-2.0
#include "base/line_writer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <thread>

namespace balloon {
namespace {

using namespace std::chrono_literals;
using Weight = LineWriter::Weight;

std::string notice(std::uint64_t lost) { return fmt::format("lost {}\n", lost); }

class LineWriterTest : public ::testing::Test {
 protected:
  LineWriterTest() {
    EXPECT_EQ(::pipe2(ends_.data(), O_CLOEXEC), 0);
    ::fcntl(ends_[1], F_SETPIPE_SZ, 4096);
  }
  ~LineWriterTest() override {
    close_reader();
    ::close(ends_[1]);
  }
  void close_reader() {
    if (ends_[0] >= 0) ::close(std::exchange(ends_[0], -1));
  }
  /// What comes until `end` stands at the end, or nothing comes for ten seconds.
  std::string read_until(const std::string& end) {
    std::string text;
    std::array<char, 65536> part{};
    ::fcntl(ends_[0], F_SETFL, O_NONBLOCK);
    for (auto last = std::chrono::steady_clock::now(); std::chrono::steady_clock::now() - last < 10s;) {
      const ssize_t count = ::read(ends_[0], part.data(), part.size());
      if (count > 0) {
        text.append(part.data(), static_cast<std::size_t>(count));
        last = std::chrono::steady_clock::now();
      } else {
        if (text.ends_with(end)) break;
        std::this_thread::sleep_for(1ms);
      }
    }
    return text;
  }

  std::array<int, 2> ends_{};
};

TEST_F(LineWriterTest, LinesComeOutInTheirOrder) {
  LineWriter writer(ends_[1], notice);
  writer.add("one\n", Weight::ordinary);
  writer.add("two\n", Weight::important);
  EXPECT_TRUE(writer.drain(10s));
  EXPECT_EQ(read_until("two\n"), "one\ntwo\n");
}

TEST_F(LineWriterTest, NobodyWaitsForAPipeThatNobodyReads) {
  LineWriter writer(ends_[1], notice);
  const std::string line(999, 'x');
  const auto before = std::chrono::steady_clock::now();
  for (int i = 0; i < 3000; ++i) writer.add(line + '\n', Weight::ordinary);
  EXPECT_LT(std::chrono::steady_clock::now() - before, 2s) << "3000 lines into memory";
  EXPECT_GE(writer.lost(), 2000U) << "a queue of 1 MiB holds 1048 of them";
  EXPECT_FALSE(writer.drain(50ms));
  close_reader();
}

TEST_F(LineWriterTest, WhatWasLostIsSaidWhenLinesAreTakenAgain) {
  LineWriter writer(ends_[1], notice);
  const std::string line(999, 'x');
  for (int i = 0; i < 3000; ++i) writer.add(line + '\n', Weight::ordinary);
  const std::string end = fmt::format("lost {}\n", writer.lost());
  const std::string text = read_until(end);
  EXPECT_TRUE(text.ends_with(end)) << text.substr(text.size() - std::min<std::size_t>(text.size(), 100));
  EXPECT_EQ(text.size(), (3000 - writer.lost()) * 1000 + end.size());
}

TEST_F(LineWriterTest, ImportantLinesHaveRoomWhenOrdinaryOnesHaveNone) {
  LineWriter writer(ends_[1], notice);
  const std::string line(999, 'x');
  for (int i = 0; i < 3000; ++i) writer.add(line + '\n', Weight::ordinary);
  const std::uint64_t lost = writer.lost();
  writer.add("the disk is gone\n", Weight::important);
  EXPECT_EQ(writer.lost(), lost);
  const std::string text = read_until(fmt::format("lost {}\n", lost));
  EXPECT_NE(text.find("the disk is gone\n"), std::string::npos);
}

TEST_F(LineWriterTest, AReaderThatHasGoneCostsLinesAndNotTheProcess) {
  LineWriter writer(ends_[1], notice);
  close_reader();
  writer.add("to nobody\n", Weight::ordinary);
  EXPECT_TRUE(writer.drain(10s));
  EXPECT_EQ(writer.lost(), 1U);
}

TEST_F(LineWriterTest, ItsEndIsBoundedWhileTheReaderIsStuck) {
  // Its thread outlives it, and may still write: this end is never closed, so that no other pipe gets its
  // number.
  const int end = ::fcntl(ends_[1], F_DUPFD_CLOEXEC, 0);
  const auto before = std::chrono::steady_clock::now();
  {
    LineWriter writer(end, notice);
    for (int i = 0; i < 100; ++i) writer.add(std::string(999, 'x') + '\n', Weight::ordinary);
  }
  EXPECT_LT(std::chrono::steady_clock::now() - before, LineWriter::kDrainMax + 2s);
  close_reader();  // its thread finds nobody, and ends
}

TEST_F(LineWriterTest, ANonBlockingDescriptorTakesAllLines) {
  ::fcntl(ends_[1], F_SETFL, O_NONBLOCK);
  LineWriter writer(ends_[1], notice);
  for (int i = 0; i < 100; ++i) writer.add(std::string(999, 'x') + '\n', Weight::ordinary);
  writer.add("end\n", Weight::ordinary);
  EXPECT_EQ(read_until("end\n").size(), 100 * 1000 + 4U);
  EXPECT_EQ(writer.lost(), 0U);
}

}  // namespace
}  // namespace balloon
