// SPDX-License-Identifier: Apache-2.0
// Samples MemAvailable and MemFree while a guest rests, or while programs run whose demand is constant.
//   noise SAMPLES rest                     nothing but this program
//   noise SAMPLES load DIRECTORY MIB       a quarter of memory is in use by a program that allocates and
//   frees all the time, a program
//                                          reads MIB of the directory's files at random, and short programs
//                                          come and go
#include <dirent.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <latch>
#include <random>
#include <string_view>
#include <thread>

#include "counters.h"

namespace {

using facts::kMiB;
using facts::kPage;
using std::chrono::milliseconds;

constexpr auto kPeriod = std::chrono::seconds(1);
/// What comes and goes a second is a small part of memory: 20 times up to 1 MiB, and 5 programs of 1 MiB.
constexpr auto kHeapPause = milliseconds(50);
constexpr auto kReadPause = milliseconds(50);
constexpr auto kProgramPause = milliseconds(200);
constexpr auto kProgramLife = milliseconds(50);
constexpr std::size_t kProgramBytes = kMiB;

/// Blocks of 4 KiB to 1 MiB, as many of a size as of its double; the oldest go when there are more than
/// `live` bytes.
void keep_heap(const std::stop_token& stop, std::uint64_t live, std::latch& ready) {
  std::mt19937_64 random(1);
  std::uniform_real_distribution<double> exponent(0, 8);
  std::vector<std::pair<void*, std::size_t>> blocks;
  std::size_t oldest = 0;
  std::uint64_t total = 0;
  while (!stop.stop_requested()) {
    const auto size = static_cast<std::size_t>(std::exp2(exponent(random))) * kPage;
    void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) facts::fail("mmap");
    for (std::size_t at = 0; at < size; at += kPage)
      static_cast<volatile std::byte*>(memory)[at] = std::byte{1};
    blocks.emplace_back(memory, size);
    total += size;
    const bool filled = oldest == 0 && total > live;
    if (filled) ready.count_down();
    for (; total > live; ++oldest) {
      munmap(blocks[oldest].first, blocks[oldest].second);
      total -= blocks[oldest].second;
    }
    if (oldest > 0) std::this_thread::sleep_for(kHeapPause);
  }
}

/// All of the files once, then blocks of them at random.
void read_files(const std::stop_token& stop, const std::string& path, std::size_t mib, std::latch& ready) {
  DIR* directory = opendir(path.c_str());
  if (directory == nullptr) facts::fail(path);
  std::vector<facts::File> files;
  std::size_t blocks = 0;
  while (const dirent* entry = readdir(directory)) {
    if (entry->d_type != DT_REG || blocks >= mib) continue;
    files.emplace_back(path + "/" + entry->d_name);
    blocks += files.back().size() / kMiB;
  }
  closedir(directory);
  for (const facts::File& file : files) file.read_part(0, file.size());
  ready.count_down();
  std::mt19937_64 random(2);
  while (!stop.stop_requested()) {
    const facts::File& file = files[random() % files.size()];
    file.read_part(random() % (file.size() / kMiB) * kMiB, kMiB);
    std::this_thread::sleep_for(kReadPause);
  }
}

void run_short_programs(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    const pid_t child = fork();
    if (child == 0) {
      void* memory = mmap(nullptr, kProgramBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (memory == MAP_FAILED) _exit(1);
      for (std::size_t at = 0; at < kProgramBytes; at += kPage)
        static_cast<volatile std::byte*>(memory)[at] = std::byte{1};
      usleep(std::chrono::microseconds(kProgramLife).count());
      _exit(0);
    }
    if (child > 0) waitpid(child, nullptr, 0);
    std::this_thread::sleep_for(kProgramPause);
  }
}

std::string list_of(const std::vector<std::uint64_t>& values) {
  std::string text = "[";
  for (const std::uint64_t value : values) text += (text.size() > 1 ? "," : "") + std::to_string(value);
  return text + "]";
}

void sample(int count, const std::string& load) {
  std::vector<std::uint64_t> available;
  std::vector<std::uint64_t> free;
  const std::uint64_t allocated = facts::vmstat("pgalloc_normal") + facts::vmstat("pgalloc_dma32");
  const std::uint64_t scanned = facts::vmstat("pgscan_kswapd") + facts::vmstat("pgscan_direct");
  auto next = std::chrono::steady_clock::now();
  for (int number = 0; number < count; ++number) {
    std::this_thread::sleep_until(next += kPeriod);
    available.push_back(facts::meminfo_kib("MemAvailable"));
    free.push_back(facts::meminfo_kib("MemFree"));
  }
  std::printf(
      "{\"fact\":\"noise\",\"load\":\"%s\",\"total_kib\":%llu,\"allocated_pages\":%llu,\"scanned_pages\":%"
      "llu,"
      "\"available_kib\":%s,\"free_kib\":%s}\n",
      load.c_str(), static_cast<unsigned long long>(facts::meminfo_kib("MemTotal")),
      static_cast<unsigned long long>(facts::vmstat("pgalloc_normal") + facts::vmstat("pgalloc_dma32") -
                                      allocated),
      static_cast<unsigned long long>(facts::vmstat("pgscan_kswapd") + facts::vmstat("pgscan_direct") -
                                      scanned),
      list_of(available).c_str(), list_of(free).c_str());
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  const int samples = argc > 2 ? std::atoi(argv[1]) : 0;
  const std::string_view load = argc > 2 ? argv[2] : "";
  if (samples <= 0 || !((load == "rest" && argc == 3) || (load == "load" && argc == 5))) {
    std::fprintf(stderr, "usage: noise SAMPLES rest | noise SAMPLES load DIRECTORY MIB\n");
    return 2;
  }
  if (load == "rest") {
    sample(samples, "rest");
    return 0;
  }
  const std::size_t mib = std::strtoull(argv[4], nullptr, 10);
  const std::uint64_t live = facts::meminfo_kib("MemTotal") * 1024 / 4;
  // Memory's use is constant when the heap is full and all files were read once.
  std::latch ready(2);
  const std::jthread heap([&, live](const std::stop_token& stop) { keep_heap(stop, live, ready); });
  const std::jthread reader([&](const std::stop_token& stop) { read_files(stop, argv[3], mib, ready); });
  const std::jthread programs(run_short_programs);
  ready.wait();
  sample(samples, "files_" + std::to_string(mib) + "_mib");
  return 0;
}
