// SPDX-License-Identifier: Apache-2.0
// What a page in zram costs: bytes, and CPU on its way out and back in, by the content of pages. The pages
// are a program's, the zram device is its swap, and MADV_PAGEOUT has the kernel swap them out in the
// program's own context, so that its CPU time is all there is.
//   zram MIB TEXT_FILE HEAP_FILE      pages of the two files stand for what text and a program's heap look
//   like
// Needs root; adds a zram device for itself and removes it.
#include <sys/swap.h>
#include <sys/sysmacros.h>

#include <cstdio>
#include <cstring>
#include <ctime>
#include <random>
#include <string_view>

#include "counters.h"

namespace {

using facts::kMiB;
using facts::kPage;
using Content = std::function<void(std::byte* page, std::size_t number)>;

constexpr const char* kAlgorithm = "lzo-rle";

void write_setting(const std::string& path, const std::string& value) {
  std::ofstream file(path);
  file << value << std::flush;
  if (!file) facts::fail(path + " = " + value);
}

/// A zram device that is in use as swap, with what it says about itself.
class ZramSwap {
 public:
  explicit ZramSwap(std::size_t bytes) {
    std::ifstream("/sys/class/zram-control/hot_add") >> number_;
    if (number_ < 0) facts::fail("no zram here (/sys/class/zram-control/hot_add)");
    device_ = "/dev/zram" + std::to_string(number_);
    system_ = "/sys/block/zram" + std::to_string(number_);
    write_setting(system_ + "/comp_algorithm", kAlgorithm);
    write_setting(system_ + "/disksize", std::to_string(bytes));
    write_header(bytes);
    if (swapon(device_.c_str(), SWAP_FLAG_PREFER | SWAP_FLAG_PRIO_MASK) != 0)
      fail_and_remove("swapon " + device_);
  }
  ~ZramSwap() {
    if (swapoff(device_.c_str()) != 0) std::perror("swapoff");
    remove();
  }
  ZramSwap(const ZramSwap&) = delete;
  ZramSwap& operator=(const ZramSwap&) = delete;

  struct Sizes {
    std::uint64_t original = 0;
    std::uint64_t compressed = 0;
    std::uint64_t used = 0;
  };
  /// Documentation/admin-guide/blockdev/zram.rst, mm_stat.
  Sizes sizes() const {
    Sizes found;
    std::ifstream(system_ + "/mm_stat") >> found.original >> found.compressed >> found.used;
    return found;
  }

 private:
  /// As mkswap writes it (include/linux/swap.h: union swap_header).
  void write_header(std::size_t bytes) {
    std::vector<std::byte> header(kPage);
    const std::uint32_t fields[] = {1, static_cast<std::uint32_t>(bytes / kPage - 1), 0};
    std::memcpy(&header[1024], fields, sizeof fields);
    std::memcpy(&header[kPage - 10], "SWAPSPACE2", 10);
    const int disk = open(device_.c_str(), O_WRONLY | O_CLOEXEC);
    if (disk < 0 || write(disk, header.data(), kPage) != static_cast<ssize_t>(kPage) || fsync(disk) != 0) {
      fail_and_remove(device_);
    }
    close(disk);
  }
  [[noreturn]] void fail_and_remove(const std::string& what) {
    std::perror(what.c_str());
    remove();
    std::exit(1);
  }
  void remove() { std::ofstream("/sys/class/zram-control/hot_remove") << number_; }

  int number_ = -1;
  std::string device_;
  std::string system_;
};

double cpu_us() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e6 + static_cast<double>(now.tv_nsec) / 1e3;
}

/// Anonymous memory in pages of 4 KiB.
class Memory {
 public:
  explicit Memory(std::size_t size) : size_(size) {
    void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) facts::fail("mmap");
    madvise(memory, size, MADV_NOHUGEPAGE);
    memory_ = static_cast<std::byte*>(memory);
  }
  ~Memory() { munmap(memory_, size_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  std::byte* page(std::size_t number) const { return memory_ + number * kPage; }
  std::size_t pages() const { return size_ / kPage; }
  /// CPU of a write to a byte of each page.
  double touch() const {
    const double before = cpu_us();
    for (std::size_t number = 0; number < pages(); ++number) {
      volatile std::byte* byte = page(number);
      *byte = *byte;
    }
    return cpu_us() - before;
  }
  double page_out() const {
    const double before = cpu_us();
    if (madvise(memory_, size_, MADV_PAGEOUT) != 0) facts::fail("MADV_PAGEOUT");
    return cpu_us() - before;
  }
  std::size_t pages_in_swap() const {
    // Documentation/admin-guide/mm/pagemap.rst: bit 62.
    std::vector<std::uint64_t> entries(pages());
    const int map = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    const auto wanted = static_cast<ssize_t>(pages() * sizeof(std::uint64_t));
    const auto at =
        static_cast<off_t>(reinterpret_cast<std::uintptr_t>(memory_) / kPage * sizeof(std::uint64_t));
    if (map < 0 || pread(map, entries.data(), static_cast<std::size_t>(wanted), at) != wanted)
      facts::fail("pagemap");
    close(map);
    return static_cast<std::size_t>(std::count_if(
        entries.begin(), entries.end(), [](std::uint64_t entry) { return ((entry >> 62) & 1) != 0; }));
  }

 private:
  std::size_t size_;
  std::byte* memory_;
};

std::vector<std::byte> pages_of_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  bytes.resize(bytes.size() / kPage * kPage);
  if (bytes.empty()) facts::fail(path + " has no page");
  std::vector<std::byte> pages(bytes.size());
  std::memcpy(pages.data(), bytes.data(), bytes.size());
  return pages;
}

void copy_page(std::byte* page, const std::vector<std::byte>& pages, std::size_t number) {
  std::memcpy(page, &pages[number % (pages.size() / kPage) * kPage], kPage);
}

void randomize(std::byte* page, std::size_t number) {
  std::mt19937_64 random(number);
  for (std::size_t at = 0; at < kPage; at += sizeof(std::uint64_t)) {
    const std::uint64_t word = random();
    std::memcpy(page + at, &word, sizeof word);
  }
}

/// What the costs are held against, in the same run: the first write to a page, and a copy of one.
void measure_reference(std::size_t bytes) {
  const Memory from(bytes);
  const Memory to(bytes);
  const double first = from.touch() + to.touch();
  const double before = cpu_us();
  for (std::size_t number = 0; number < from.pages(); ++number)
    std::memcpy(to.page(number), from.page(number), kPage);
  const auto pages = static_cast<double>(from.pages());
  std::printf("{\"fact\":\"zram_reference\",\"first_touch_us\":%.4f,\"copy_us\":%.4f}\n", first / pages / 2,
              (cpu_us() - before) / pages);
}

void measure(const char* name, std::size_t bytes, const Content& fill) {
  const ZramSwap swap(bytes + 4 * kMiB);
  const Memory memory(bytes);
  for (std::size_t number = 0; number < memory.pages(); ++number) fill(memory.page(number), number);
  // Present already: what is left is the walk itself.
  const double walk = memory.touch();
  const ZramSwap::Sizes before = swap.sizes();
  const double out = memory.page_out();
  const std::size_t gone = memory.pages_in_swap();
  const ZramSwap::Sizes after = swap.sizes();
  const double in = memory.touch();
  if (gone < memory.pages() * 9 / 10 || memory.pages_in_swap() > memory.pages() / 100) {
    std::fprintf(stderr, "%zu of %zu pages went to zram, %zu are still there\n", gone, memory.pages(),
                 memory.pages_in_swap());
    std::exit(1);
  }
  std::printf(
      "{\"fact\":\"zram\",\"content\":\"%s\",\"pages\":%zu,\"stored_bytes\":%llu,\"compressed_bytes\":%llu,"
      "\"used_bytes\":%llu,\"out_us\":%.1f,\"in_us\":%.1f,\"walk_us\":%.1f}\n",
      name, gone, static_cast<unsigned long long>(after.original - before.original),
      static_cast<unsigned long long>(after.compressed - before.compressed),
      static_cast<unsigned long long>(after.used - before.used), out, in, walk);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  const std::size_t bytes = argc == 4 ? std::strtoull(argv[1], nullptr, 10) * kMiB : 0;
  if (bytes == 0) {
    std::fprintf(stderr, "usage: zram MIB TEXT_FILE HEAP_FILE\n");
    return 2;
  }
  const std::vector<std::byte> text = pages_of_file(argv[2]);
  const std::vector<std::byte> heap = pages_of_file(argv[3]);
  measure_reference(bytes);
  measure("zero", bytes, [](std::byte* page, std::size_t) { std::memset(page, 0, kPage); });
  measure("text", bytes, [&](std::byte* page, std::size_t number) { copy_page(page, text, number); });
  measure("heap", bytes, [&](std::byte* page, std::size_t number) { copy_page(page, heap, number); });
  measure("random", bytes, randomize);
  // A quarter each.
  measure("mixed", bytes, [&](std::byte* page, std::size_t number) {
    switch (number % 4) {
      case 0:
        std::memset(page, 0, kPage);
        break;
      case 1:
        copy_page(page, text, number / 4);
        break;
      case 2:
        copy_page(page, heap, number / 4);
        break;
      default:
        randomize(page, number);
    }
  });
  return 0;
}
