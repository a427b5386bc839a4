// SPDX-License-Identifier: Apache-2.0
// A process that registers guests whose memory it does not have, and stays until it is killed:
// lying_vmm SOCKET MEMORY_GIB HOW_MANY
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "tests/integration/fake_vmm.h"

int main(int argc, char** argv) {
  using namespace balloon::test;
  if (argc != 4) return 2;
  const std::uint64_t memory = std::strtoull(argv[2], nullptr, 10) * kGiB;
  std::vector<std::unique_ptr<FakeVmm>> guests;
  for (int i = 0; i < std::atoi(argv[3]); ++i) {
    const std::string name = "liar-" + std::to_string(i);
    guests.push_back(std::make_unique<FakeVmm>(argv[1], FakeVmm::guest(name, memory, memory), false));
  }
  ::pause();
}
