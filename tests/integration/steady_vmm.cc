// SPDX-License-Identifier: Apache-2.0
// A process that runs a guest which uses the same all the time, has little more than that at first, and
// follows its targets: steady_vmm SOCKET NAME MEMORY_MIB USED_MIB
#include <chrono>
#include <cstdlib>
#include <thread>

#include "tests/integration/fake_vmm.h"

int main(int argc, char** argv) {
  using namespace balloon::test;
  if (argc != 5) return 2;
  const std::uint64_t memory = std::strtoull(argv[3], nullptr, 10) * kMiB;
  const std::uint64_t used = std::strtoull(argv[4], nullptr, 10) * kMiB;
  FakeVmm vmm(argv[1], FakeVmm::guest(argv[2], memory, used + used / 32));
  for (;;) {
    vmm.send_stats(used);
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
}
