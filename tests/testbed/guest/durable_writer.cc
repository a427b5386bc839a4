// SPDX-License-Identifier: Apache-2.0
// Writes numbered blocks, each with bytes of its own, to scattered places of a disk, and says after every
// flush how many are safe by now: {"event":"flushed","blocks":N}. Whoever kills the VMM meanwhile can tell by
// the disk's image whether that was true (runner/bench/durability.py).
//   durable_writer DEVICE BLOCKS
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

constexpr std::size_t kBlock = 4096;
/// Blocks between flushes.
constexpr std::uint64_t kBatch = 16;
/// Coprime to every power of two, so that numbers and places match one to one: neighbours in time are far
/// apart.
constexpr std::uint64_t kStride = 0x9E3779B1;

/// The number, then a word that only this number has, all over: a block that is torn or another's shows.
void fill(std::array<std::uint64_t, kBlock / sizeof(std::uint64_t)>& block, std::uint64_t number) {
  block.fill(number * 0x9E3779B97F4A7C15U + 1);
  block[0] = number;
}

}  // namespace

int main(int argc, char** argv) {
  const std::uint64_t blocks = argc == 3 ? std::strtoull(argv[2], nullptr, 10) : 0;
  if (blocks == 0 || (blocks & (blocks - 1)) != 0) {
    std::fprintf(stderr, "usage: durable_writer DEVICE BLOCKS (a power of two)\n");
    return 2;
  }
  const int disk = open(argv[1], O_WRONLY | O_CLOEXEC);
  if (disk < 0) {
    std::perror(argv[1]);
    return 1;
  }
  std::array<std::uint64_t, kBlock / sizeof(std::uint64_t)> block{};
  for (std::uint64_t number = 0; number < blocks; ++number) {
    fill(block, number);
    const auto place = static_cast<off_t>(number * kStride % blocks * kBlock);
    if (pwrite(disk, block.data(), kBlock, place) != static_cast<ssize_t>(kBlock)) {
      std::perror("pwrite");
      return 1;
    }
    if ((number + 1) % kBatch != 0) continue;
    if (fdatasync(disk) != 0) {
      std::perror("fdatasync");
      return 1;
    }
    std::printf("{\"event\":\"flushed\",\"blocks\":%llu}\n", static_cast<unsigned long long>(number + 1));
    std::fflush(stdout);
  }
  return 0;
}
