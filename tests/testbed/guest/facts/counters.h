// SPDX-License-Identifier: Apache-2.0
// What the probes of this directory share: the kernel's counters, a file's place in the page cache, and
// memory taken from it. Probes print raw counts, one JSON object a line; report/facts.py makes figures of
// them.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace facts {

inline constexpr std::size_t kPage = 4096;
inline constexpr std::size_t kMiB = 1 << 20;

[[noreturn]] inline void fail(const std::string& what) {
  std::perror(what.c_str());
  std::exit(1);
}

/// A line "NAME NUMBER" or "NAME: NUMBER kB" of a file in /proc. Absent, it is a mistake of the probe's.
inline std::uint64_t number_in(const std::string& path, const std::string& name) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string found;
    std::uint64_t value = 0;
    if (words >> found >> value && (found == name || found == name + ":")) return value;
  }
  std::fprintf(stderr, "%s has no %s\n", path.c_str(), name.c_str());
  std::exit(1);
}

inline std::uint64_t meminfo_kib(const std::string& name) { return number_in("/proc/meminfo", name); }
inline std::uint64_t vmstat(const std::string& name) { return number_in("/proc/vmstat", name); }

/// An open file, its pages in memory seen through a mapping that is never touched.
class File {
 public:
  explicit File(const std::string& path) : descriptor_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    struct stat found{};
    if (descriptor_ < 0 || fstat(descriptor_, &found) != 0) fail(path);
    size_ = static_cast<std::size_t>(found.st_size);
    device_ = found.st_dev;
    void* view = mmap(nullptr, size_, PROT_READ, MAP_SHARED, descriptor_, 0);
    if (view == MAP_FAILED) fail("mmap " + path);
    view_ = static_cast<std::byte*>(view);
  }
  ~File() {
    if (view_ != nullptr) munmap(view_, size_);
    if (descriptor_ >= 0) close(descriptor_);
  }
  File(File&& other) noexcept
      : descriptor_(std::exchange(other.descriptor_, -1)),
        size_(other.size_),
        device_(other.device_),
        view_(std::exchange(other.view_, nullptr)) {}
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  File& operator=(File&&) = delete;

  std::size_t size() const { return size_; }
  int descriptor() const { return descriptor_; }
  const std::byte* view() const { return view_; }

  /// By read(2).
  void read_part(std::size_t offset, std::size_t length) const {
    static std::vector<std::byte> buffer(kMiB);
    while (length > 0) {
      const ssize_t got =
          pread(descriptor_, buffer.data(), std::min(length, buffer.size()), static_cast<off_t>(offset));
      if (got <= 0) fail("read");
      offset += static_cast<std::size_t>(got);
      length -= static_cast<std::size_t>(got);
    }
  }

  std::size_t pages_absent(std::size_t offset, std::size_t length) const {
    std::vector<unsigned char> present(length / kPage);
    if (mincore(view_ + offset, length, present.data()) != 0) fail("mincore");
    return static_cast<std::size_t>(
        std::count_if(present.begin(), present.end(), [](unsigned char page) { return (page & 1) == 0; }));
  }

  /// What the file's disk has read since it exists (Documentation/admin-guide/iostats.rst, field 3).
  std::uint64_t disk_bytes_read() const {
    std::ifstream statistics("/proc/diskstats");
    for (std::string line; std::getline(statistics, line);) {
      std::istringstream words(line);
      unsigned found_major = 0;
      unsigned found_minor = 0;
      std::string name;
      std::uint64_t reads = 0;
      std::uint64_t merged = 0;
      std::uint64_t sectors = 0;
      words >> found_major >> found_minor >> name >> reads >> merged >> sectors;
      if (found_major == major(device_) && found_minor == minor(device_)) return sectors * 512;
    }
    std::fprintf(stderr, "the file is on no disk\n");
    std::exit(1);
  }

 private:
  int descriptor_;
  std::size_t size_ = 0;
  dev_t device_ = 0;
  std::byte* view_ = nullptr;
};

/// A program that takes memory in steps until `enough` says so, calls `then`, and ends. How much it took;
/// nothing if the kernel killed it for want of memory, for which it offers itself.
inline std::optional<std::uint64_t> with_memory_taken(
    const std::function<bool(std::uint64_t taken)>& enough, const std::function<void()>& then = [] {}) {
  constexpr std::size_t kStep = 2 * kMiB;
  int ends[2];
  std::fflush(stdout);
  if (pipe(ends) != 0) fail("pipe");
  const pid_t child = fork();
  if (child < 0) fail("fork");
  if (child == 0) {
    std::ofstream("/proc/self/oom_score_adj") << 1000;
    std::uint64_t taken = 0;
    while (!enough(taken)) {
      void* memory = mmap(nullptr, kStep, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (memory == MAP_FAILED) break;
      for (std::size_t at = 0; at < kStep; at += kPage)
        static_cast<volatile std::byte*>(memory)[at] = std::byte{1};
      taken += kStep;
    }
    then();
    std::fflush(stdout);
    const ssize_t told = write(ends[1], &taken, sizeof taken);
    _exit(told == sizeof taken ? 0 : 1);
  }
  close(ends[1]);
  std::uint64_t taken = 0;
  const bool told = read(ends[0], &taken, sizeof taken) == sizeof taken;
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (!told || status != 0) return std::nullopt;
  return taken;
}

}  // namespace facts
