// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>
#include <fstream>
#include <sstream>

#include "balloond/host/pressure_trigger.h"
#include "balloond/host/process.h"
#include "balloond/host/sampler.h"
#include "tests/unit/balloond/fakes.h"

namespace balloon::daemon {
namespace {

TEST(HostSamplerTest, ReadsWhatTheKernelSays) {
  const test::FakeTree tree;
  tree.host("8388608", "4194304");
  HostSampler sampler(tree.root());
  const auto sample = sampler.sample();
  ASSERT_TRUE(sample) << sample.error().message;
  const auto page = static_cast<policy::Bytes>(::sysconf(_SC_PAGESIZE));
  EXPECT_EQ(sample->memory.total, 8 * test::kGiB);
  EXPECT_EQ(sample->memory.available, 4 * test::kGiB);
  EXPECT_EQ(sample->memory.swap_total, test::kGiB);
  EXPECT_EQ(sample->memory.swap_in, 3 * page);
  EXPECT_EQ(sample->memory.swap_out, 5 * page);
  EXPECT_DOUBLE_EQ(sample->memory.pressure_some, 0.125);
  EXPECT_DOUBLE_EQ(sample->memory.pressure_full, 0.02);
  EXPECT_EQ(sample->pressure_some_micros, 7'000'000U);
  EXPECT_TRUE(sample->has_pressure);
}

TEST(HostSamplerTest, ReadsWhatZfsCacheWouldGiveBackWheneverZfsIsThere) {
  const test::FakeTree tree;
  tree.host("8388608", "4194304");
  HostSampler sampler(tree.root());
  EXPECT_EQ(sampler.sample()->memory.arc, Bytes{0});
  tree.write("/proc/spl/kstat/zfs/arcstats",
             "13 1 0x01 147 39984 4186117384 72153454161\n"
             "name                            type data\n"
             "hdr_size                        4    77\n"
             "c_min                           4    268435456\n"
             "c_max                           4    4294967296\n"
             "size                            4    1073741824\n"
             "compressed_size                 4    99\n");
  EXPECT_EQ(sampler.sample()->memory.arc, 768 * test::kMiB);
  tree.write("/proc/spl/kstat/zfs/arcstats", "size 4 1024\nc_min 4 2048\n");
  EXPECT_EQ(sampler.sample()->memory.arc, Bytes{0}) << "it is below its minimum";
  tree.write("/proc/spl/kstat/zfs/arcstats", "size 4");
  EXPECT_EQ(sampler.sample()->memory.arc, Bytes{0}) << "half a line";
}

TEST(HostSamplerTest, WhatWasGivenBackOfHugePagesIsAvailable) {
  const test::FakeTree tree;
  tree.host("8388608", "4194304");
  std::string meminfo =
      "MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\nSwapCached: 1024 kB\nActive(anon): 1048576 kB\n"
      "Inactive(anon): 2097152 kB\nAnonPages: 2096128 kB\nShmem: 524288 kB\n";
  tree.write("/proc/meminfo", meminfo);
  EXPECT_EQ(HostSampler(tree.root()).sample()->memory.available, (4096 + 512) * test::kMiB);
  meminfo.replace(meminfo.find("AnonPages: 2"), 12, "AnonPages: 9");
  tree.write("/proc/meminfo", meminfo);
  EXPECT_EQ(HostSampler(tree.root()).sample()->memory.available, 4 * test::kGiB)
      << "locked pages are in no list";
}

/// Of this machine's kernel: what its MemAvailable leaves out.
policy::Bytes beyond_mem_available() {
  HostSampler sampler;
  const policy::Bytes available = sampler.sample()->memory.available;
  std::ostringstream text;
  text << std::ifstream("/proc/meminfo").rdbuf();
  return above(available, number_after(text.str(), "MemAvailable:").value_or(0) * kKiB);
}

TEST(HostSamplerTest, WhatABalloonGivesBackPageByPageIsSeenThoughTheKernelKeepsIt) {
  constexpr std::size_t kHuge = (2 * test::kMiB).count();
  constexpr std::size_t kSize = 128 * kHuge;
  void* const mapped =
      ::mmap(nullptr, kSize + kHuge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(mapped, MAP_FAILED);
  auto* const begin =
      reinterpret_cast<char*>((reinterpret_cast<std::uintptr_t>(mapped) + kHuge - 1) & ~(kHuge - 1));
  ASSERT_EQ(::madvise(begin, kSize, MADV_HUGEPAGE), 0);
  std::memset(begin, 1, kSize);
  const policy::Bytes before = beyond_mem_available();
  for (std::size_t at = 0; at < kSize; at += 8192) ASSERT_EQ(::madvise(begin + at, 4096, MADV_DONTNEED), 0);
  EXPECT_GT(beyond_mem_available(), before + 100 * test::kMiB)
      << "of 128 MiB; this needs transparent huge pages";
  ::munmap(mapped, kSize + kHuge);
}

TEST(HostSamplerTest, ReadsAgainThroughTheSameFiles) {
  const test::FakeTree tree;
  tree.host("8388608", "4194304");
  HostSampler sampler(tree.root());
  ASSERT_TRUE(sampler.sample());
  tree.host("8388608", "1048576");
  EXPECT_EQ(sampler.sample()->memory.available, test::kGiB);
}

TEST(HostSamplerTest, GoesWithoutPressureAndKsm) {
  const test::FakeTree tree;
  tree.write("/proc/meminfo", "MemTotal: 1024 kB\n");
  tree.write("/proc/vmstat", "pswpin 0\n");
  HostSampler sampler(tree.root());
  const auto sample = sampler.sample();
  ASSERT_TRUE(sample);
  EXPECT_FALSE(sample->has_pressure);
  EXPECT_FALSE(sample->memory.ksm);
}

TEST(HostSamplerTest, FailsWithoutMeminfo) {
  const test::FakeTree tree;
  HostSampler sampler(tree.root());
  EXPECT_FALSE(sampler.sample());
}

TEST(ProcessTest, SaysWhatAProcessUsesUntilItEnds) {
  const test::FakeTree tree;
  tree.process(42, "2048");
  const Process process(tree.root(), 42);
  ASSERT_TRUE(process.sample());
  EXPECT_EQ(process.sample()->resident, 2 * test::kMiB);
  EXPECT_EQ(process.sample()->swapped, 16 * kKiB);
  tree.end_process(42);
  EXPECT_FALSE(process.sample());
}

TEST(ProcessTest, AProcessThatNeverWasIsNotAlive) {
  const test::FakeTree tree;
  EXPECT_FALSE(Process(tree.root(), 4711).sample());
  EXPECT_FALSE(Process("", 0).sample());
}

TEST(PressureTriggerTest, WithoutPsiThereIsNoneAndTheFileIsNamed) {
  const test::FakeTree tree;
  const auto trigger = open_pressure_trigger(tree.root());
  ASSERT_FALSE(trigger);
  EXPECT_EQ(trigger.error().message,
            "cannot open " + tree.root() + "/proc/pressure/memory: No such file or directory");
}

TEST(PressureTriggerTest, TheKernelIsAskedForStallsOfSomeTask) {
  const test::FakeTree tree;
  tree.write("/proc/pressure/memory", "");
  ASSERT_TRUE(open_pressure_trigger(tree.root()));
  std::ifstream file(tree.root() + "/proc/pressure/memory");
  std::string written;
  std::getline(file, written, '\0');
  EXPECT_EQ(written, "some 150000 1000000");
}

TEST(PseudoFileTest, WhatTheKernelGivesInPiecesIsReadToItsEnd) {
  const auto keys_of = [](const std::string& text) {
    std::istringstream lines(text);
    std::vector<std::string> keys;
    for (std::string line; std::getline(lines, line);)
      keys.push_back(line.substr(0, line.find_first_of(": ")));
    return keys;
  };
  for (const char* path : {"/proc/vmstat", "/proc/meminfo", "/proc/self/status", "/proc/self/cgroup"}) {
    std::ifstream file(path);
    const std::string expected{std::istreambuf_iterator<char>(file), {}};
    ReadBuffer buffer;
    const auto text = PseudoFile(path).read(buffer);
    ASSERT_TRUE(text) << path;
    EXPECT_EQ(keys_of(std::string(*text)), keys_of(expected)) << path;
  }
}

TEST(NumberAfterTest, TakesOnlyWholeKeysAtTheStartOfALine) {
  EXPECT_EQ(number_after("xpswpin 1\npswpinner 2\npswpin 3\n", "pswpin"), 3U);
  EXPECT_EQ(number_after("MemFree:5 kB", "MemFree:"), 5U);
  EXPECT_EQ(number_after("MemFree: x", "MemFree:"), std::nullopt);
}

}  // namespace
}  // namespace balloon::daemon
