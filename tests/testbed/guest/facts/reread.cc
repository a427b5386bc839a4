// SPDX-License-Identifier: Apache-2.0
// A file that was in the page cache and had to give way to a program's memory is read once more: what the
// kernel counts, for read(2) and for a mapping, page by page in order, all over the place, and all over the
// place with the kernel told so (MADV_RANDOM, POSIX_FADV_RANDOM: no read-ahead).
//   reread FILE REPEATS
#include <cstdio>
#include <numeric>
#include <random>
#include <string_view>

#include "counters.h"

namespace {

using facts::File;
using facts::kMiB;
using facts::kPage;

enum class Order { sequential, random, advised_random };

const char* name_of(Order order) {
  switch (order) {
    case Order::sequential:
      return "sequential";
    case Order::random:
      return "random";
    case Order::advised_random:
      return "advised_random";
  }
  return "";
}

struct Counts {
  std::uint64_t major_faults;
  std::uint64_t refaults;
  std::uint64_t disk_bytes;
};

Counts count(const File& file) {
  return {facts::vmstat("pgmajfault"), facts::vmstat("workingset_refault_file"), file.disk_bytes_read()};
}

/// Page numbers, in order or shuffled the same way each time.
std::vector<std::size_t> pages_of(const File& file, Order order) {
  std::vector<std::size_t> pages(file.size() / kPage);
  std::iota(pages.begin(), pages.end(), std::size_t{0});
  if (order != Order::sequential) std::shuffle(pages.begin(), pages.end(), std::mt19937_64(1));
  return pages;
}

void use_read(const File& file, Order order) {
  if (order == Order::advised_random) posix_fadvise(file.descriptor(), 0, 0, POSIX_FADV_RANDOM);
  for (const std::size_t page : pages_of(file, order)) file.read_part(page * kPage, kPage);
}

void use_mapping(const File& file, Order order) {
  void* view = mmap(nullptr, file.size(), PROT_READ, MAP_SHARED, file.descriptor(), 0);
  if (view == MAP_FAILED) facts::fail("mmap");
  if (order == Order::advised_random) madvise(view, file.size(), MADV_RANDOM);
  for (const std::size_t page : pages_of(file, order)) {
    [[maybe_unused]] const std::byte byte = static_cast<volatile std::byte*>(view)[page * kPage];
  }
  munmap(view, file.size());
}

/// Makes at least nine tenths of the file give way. A few pages always stay: they are on their way to the
/// kernel's lists.
void evict(const File& file) {
  const std::size_t pages = file.size() / kPage;
  facts::with_memory_taken(
      [&](std::uint64_t) { return file.pages_absent(0, file.size()) > pages * 97 / 100; });
  if (file.pages_absent(0, file.size()) >= pages * 9 / 10) return;
  std::fprintf(stderr, "the file did not give way to a program's memory\n");
  std::exit(1);
}

void measure(const std::string& path, const char* way, Order order) {
  // A descriptor of its own each time: the kernel's read-ahead remembers how one was used.
  const File file(path);
  file.read_part(0, file.size());
  file.read_part(0, file.size());
  evict(file);
  const std::size_t absent = file.pages_absent(0, file.size());
  const Counts before = count(file);
  (std::string_view(way) == "read" ? use_read : use_mapping)(file, order);
  const Counts after = count(file);
  std::printf(
      "{\"fact\":\"reread\",\"way\":\"%s\",\"order\":\"%s\",\"absent_bytes\":%zu,\"major_faults\":%llu,"
      "\"refaults\":%llu,\"disk_bytes\":%llu}\n",
      way, name_of(order), absent * kPage,
      static_cast<unsigned long long>(after.major_faults - before.major_faults),
      static_cast<unsigned long long>(after.refaults - before.refaults),
      static_cast<unsigned long long>(after.disk_bytes - before.disk_bytes));
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  const int repeats = argc == 3 ? std::atoi(argv[2]) : 0;
  if (repeats <= 0) {
    std::fprintf(stderr, "usage: reread FILE REPEATS\n");
    return 2;
  }
  for (int repeat = 0; repeat < repeats; ++repeat) {
    for (const Order order : {Order::sequential, Order::random, Order::advised_random}) {
      measure(argv[1], "read", order);
      measure(argv[1], "mmap", order);
    }
  }
  return 0;
}
