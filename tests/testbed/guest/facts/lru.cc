// SPDX-License-Identifier: Apache-2.0
// How well the kernel's page replacement tells files in use from files that are read once.
//   lru stream DIRECTORY SET_MIB STREAM_MIB PASSES     a set is read again and again; beside each pass over
//   it, so much of a
//                                                      stream that is not read again soon. What was absent of
//                                                      the set?
//   lru shrink DIRECTORY SET_MIB RATIO                 a set was read several times, the rest of memory is
//   files read once; a
//                                                      program takes RATIO of that rest. What is absent of
//                                                      the set then?
// The set is the directory's first bytes, the stream are the others, round and round. Bytes are read by
// read(2), 1 MiB at a time.
#include <dirent.h>

#include <cstdio>
#include <random>
#include <string_view>

#include "counters.h"

namespace {

using facts::File;
using facts::kMiB;
using facts::kPage;

/// The files of a directory as one row of blocks of 1 MiB.
class Blocks {
 public:
  explicit Blocks(const std::string& path) {
    DIR* directory = opendir(path.c_str());
    if (directory == nullptr) facts::fail(path);
    std::vector<std::string> names;
    while (const dirent* entry = readdir(directory)) {
      if (entry->d_type == DT_REG) names.push_back(path + "/" + entry->d_name);
    }
    closedir(directory);
    std::sort(names.begin(), names.end());
    for (const std::string& name : names) {
      const File& file = files_.emplace_back(name);
      for (std::size_t at = 0; at + kMiB <= file.size(); at += kMiB)
        places_.emplace_back(files_.size() - 1, at);
    }
  }
  std::size_t size() const { return places_.size(); }
  void use(std::size_t block) const { files_[places_[block].first].read_part(places_[block].second, kMiB); }
  std::size_t absent(std::size_t block) const {
    return files_[places_[block].first].pages_absent(places_[block].second, kMiB) * kPage;
  }
  std::size_t absent_of_first(std::size_t count) const {
    std::size_t bytes = 0;
    for (std::size_t block = 0; block < count; ++block) bytes += absent(block);
    return bytes;
  }

 private:
  std::vector<File> files_;
  std::vector<std::pair<std::size_t, std::size_t>> places_;  // file, offset
};

/// What is read once: all blocks behind the set, round and round.
class Stream {
 public:
  Stream(const Blocks& blocks, std::size_t first) : blocks_(blocks), first_(first), next_(first) {}
  void use(std::size_t count) {
    for (; count > 0; --count) {
      blocks_.use(next_);
      next_ = next_ + 1 < blocks_.size() ? next_ + 1 : first_;
    }
  }

 private:
  const Blocks& blocks_;
  std::size_t first_;
  std::size_t next_;
};

/// One pass over the set in an order of its own, `stream_blocks` of the stream spread evenly between; what
/// was absent of the set.
std::size_t pass(const Blocks& blocks, std::size_t set, Stream& stream, std::size_t stream_blocks,
                 std::mt19937_64& random) {
  std::vector<std::size_t> order(set);
  for (std::size_t block = 0; block < set; ++block) order[block] = block;
  std::shuffle(order.begin(), order.end(), random);
  std::size_t absent = 0;
  std::size_t streamed = 0;
  for (std::size_t done = 0; done < set; ++done) {
    absent += blocks.absent(order[done]);
    blocks.use(order[done]);
    const std::size_t due = (done + 1) * stream_blocks / set;
    stream.use(due - streamed);
    streamed = due;
  }
  return absent;
}

int run_stream(const Blocks& blocks, std::size_t set, std::size_t stream_blocks, int passes) {
  Stream stream(blocks, set);
  std::mt19937_64 random(1);
  for (int number = 0; number < passes; ++number) {
    const std::size_t absent = pass(blocks, set, stream, stream_blocks, random);
    std::printf(
        "{\"fact\":\"lru_stream\",\"pass\":%d,\"set_bytes\":%zu,\"stream_bytes\":%zu,\"absent_bytes\":%zu,"
        "\"available_kib\":%llu}\n",
        number, set * kMiB, stream_blocks * kMiB, absent,
        static_cast<unsigned long long>(facts::meminfo_kib("MemAvailable")));
    std::fflush(stdout);
  }
  return 0;
}

int run_shrink(const Blocks& blocks, std::size_t set, double ratio) {
  Stream stream(blocks, set);
  std::mt19937_64 random(1);
  const auto memory_blocks = static_cast<std::size_t>(facts::meminfo_kib("MemTotal") / 1024);
  for (int number = 0; number < 4; ++number) pass(blocks, set, stream, memory_blocks / 4, random);
  const std::size_t absent_before = blocks.absent_of_first(set);
  const std::uint64_t rest = facts::meminfo_kib("MemAvailable") * 1024 - (set * kMiB - absent_before);
  const auto wanted = static_cast<std::uint64_t>(ratio * static_cast<double>(rest));
  std::size_t absent_after = 0;
  const auto taken = facts::with_memory_taken(
      [&](std::uint64_t so_far) { return so_far >= wanted; },
      [&] {
        absent_after = blocks.absent_of_first(set);
        std::printf(
            "{\"fact\":\"lru_shrink\",\"set_bytes\":%zu,\"rest_bytes\":%llu,\"ratio\":%g,\"absent_before_"
            "bytes\":%zu,"
            "\"absent_bytes\":%zu}\n",
            set * kMiB, static_cast<unsigned long long>(rest), ratio, absent_before, absent_after);
      });
  if (!taken) std::fprintf(stderr, "the program that takes memory was killed\n");
  return taken ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view what = argc > 1 ? argv[1] : "";
  if (!((what == "stream" && argc == 6) || (what == "shrink" && argc == 5))) {
    std::fprintf(
        stderr,
        "usage: lru stream DIRECTORY SET_MIB STREAM_MIB PASSES | lru shrink DIRECTORY SET_MIB RATIO\n");
    return 2;
  }
  const Blocks blocks(argv[2]);
  const std::size_t set = std::strtoull(argv[3], nullptr, 10);
  if (set == 0 || set >= blocks.size()) {
    std::fprintf(stderr, "the set must be smaller than the directory, %zu MiB\n", blocks.size());
    return 2;
  }
  if (what == "stream")
    return run_stream(blocks, set, std::strtoull(argv[4], nullptr, 10), std::atoi(argv[5]));
  return run_shrink(blocks, set, std::strtod(argv[4], nullptr));
}
