// SPDX-License-Identifier: Apache-2.0
// What all fuzz targets share: an input that is taken apart, and the limits that no input may break.
#pragma once

#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "tests/fuzz/heap.h"

#if defined(__SANITIZE_ADDRESS__)  // GCC
#define BALLOON_FUZZ_ASAN
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)  // clang
#define BALLOON_FUZZ_ASAN
#endif
#endif

namespace balloon::vmm::fuzz {

using Bytes8 = std::vector<std::uint8_t>;

/// What a mutation begins with, besides the files of the corpus. Each target defines it.
std::vector<Bytes8> seeds();

/// An input, from its beginning; behind its end there are zeros.
class Input {
 public:
  explicit Input(std::span<const std::uint8_t> bytes) : left_(bytes) {}

  bool empty() const { return left_.empty(); }
  template <typename T>
  T take() {
    T value{};
    const std::size_t size = std::min(sizeof value, left_.size());
    if (size > 0) std::memcpy(&value, left_.data(), size);
    left_ = left_.subspan(size);
    return value;
  }
  /// A number below `limit`.
  std::uint32_t below(std::uint32_t limit) { return take<std::uint16_t>() % limit; }
  std::span<const std::uint8_t> bytes(std::size_t size) {
    const auto taken = left_.first(std::min(size, left_.size()));
    left_ = left_.subspan(taken.size());
    return taken;
  }
  std::span<const std::uint8_t> rest() { return bytes(left_.size()); }

 private:
  std::span<const std::uint8_t> left_;
};

/// A length of a buffer as hostile guests choose it: mostly what means something, up to 4 GiB.
inline std::uint32_t length(Input& input) {
  constexpr std::array<std::uint32_t, 12> kLengths = {
      0, 1, 4, 16, 512, 4096, 0x10000, 0x20000, 0x800000, 0x7fffffff, 0x80000000, 0xffffffff};
  const auto choice = input.take<std::uint8_t>();
  return choice < kLengths.size() ? kLengths[choice] : input.take<std::uint32_t>() >> (choice % 32);
}

inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "fuzz: %s\n", what);
  std::abort();
}

/// Of the processor, so that other work on the machine does not count.
inline std::chrono::nanoseconds used(clockid_t clock) {
  timespec time{};
  ::clock_gettime(clock, &time);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

/// Of one input: neither its time, nor the heap that it has at once, nor the memory that it leaves may be
/// more.
class Limits {
 public:
  static constexpr std::chrono::seconds kTime{3};
  /// An input that would take for ever is ended after so long.
  static constexpr std::chrono::seconds kEndless{20};
  static constexpr Bytes kMemory = 64 * kMiB;

  Limits() : memory_(resident()), heap_(heap_now()), start_(used(CLOCK_PROCESS_CPUTIME_ID)) {
    forget_heap_peak();
    ::signal(SIGPROF, [](int) {
      static constexpr char kWords[] = "fuzz: an input has no end\n";
      [[maybe_unused]] const auto written = ::write(STDERR_FILENO, kWords, sizeof kWords - 1);
      std::abort();
    });
    set_alarm(kEndless);
  }
  ~Limits() {
    set_alarm(std::chrono::seconds(0));
    require(used(CLOCK_PROCESS_CPUTIME_ID) - start_ < kTime, "an input took more than 3 s");
    require(heap_peak() < heap_ + kMemory, "an input had more than 64 MiB of heap at once");
    // Sanitizers keep what was freed.
#ifndef BALLOON_FUZZ_ASAN
    require(resident() < memory_ + kMemory, "an input left more than 64 MiB");
#endif
  }
  Limits(const Limits&) = delete;
  Limits& operator=(const Limits&) = delete;

 private:
  static void set_alarm(std::chrono::seconds used) {
    const itimerval timer{.it_interval = {}, .it_value = {.tv_sec = used.count(), .tv_usec = 0}};
    ::setitimer(ITIMER_PROF, &timer, nullptr);
  }
  static Bytes resident() {
    std::ifstream file("/proc/self/statm");
    std::uint64_t size = 0, pages = 0;
    file >> size >> pages;
    return pages * Bytes{static_cast<std::uint64_t>(::getpagesize())};
  }
  const Bytes memory_;
  const Bytes heap_;
  const std::chrono::nanoseconds start_;
};

/// One call of a device, which others wait for: never long. Generous, because sanitizers are slow.
class Turn {
 public:
  Turn() : start_(used(CLOCK_THREAD_CPUTIME_ID)) {}
  ~Turn() {
    require(used(CLOCK_THREAD_CPUTIME_ID) - start_ < std::chrono::seconds(1),
            "a turn of a device took more than 1 s");
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  const std::chrono::nanoseconds start_;
};

/// What a target makes of an input that it takes apart.
inline int run_within_limits(void (*run)(Input&), const std::uint8_t* data, std::size_t size) {
  const Limits limits;
  Input input(std::span(data, size));
  run(input);
  return 0;
}

}  // namespace balloon::vmm::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
