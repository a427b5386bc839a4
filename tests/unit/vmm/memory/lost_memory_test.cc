// SPDX-License-Identifier: Apache-2.0
#include "vmm/memory/lost_memory.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <stdexcept>

#include "tests/unit/vmm/address_literals.h"
#include "tests/unit/vmm/memory/lent_pool.h"
#include "vmm/memory/guest_memory.h"

namespace balloon::vmm::test {
namespace {

constexpr int kPages = 4;

/// Touches a page of a pool that was given back, and is lent to nobody any more.
void touch_what_is_gone(LentPool& pool) {
  auto memory = GuestMemory::create(kPages * 2 * kMiB, {.huge_pages = HugePages::two_mib});
  if (!memory) throw std::runtime_error(memory.error().message);
  tell_of_lost_memory("web");
  set_guest_memory(*memory);
  memory->write<std::uint32_t>(0, 1);
  if (!memory->release({0, 2_MiB})) throw std::runtime_error("release");
  pool.set(kPages - 1);
  memory->write<std::uint32_t>(0, 1);
}

TEST(LostMemoryDeathTest, APageThatTheHostLacksEndsTheGuestWithAMessageAndNoCoreDump) {
  LentPool pool(kPages);  // here, so that it is taken back
  EXPECT_EXIT(touch_what_is_gone(pool), testing::ExitedWithCode(1),
              "guest 'web' ends: the host has no page .*vm.nr_hugepages");
}

TEST(LostMemoryDeathTest, ElsewhereABusErrorIsWhatItAlwaysWas) {
  const auto touch_behind_the_end_of_a_file = [] {
    tell_of_lost_memory("web");
    const int file = ::memfd_create("empty", MFD_CLOEXEC);
    auto* const page =
        static_cast<volatile char*>(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
    *page = 1;
  };
  EXPECT_EXIT(touch_behind_the_end_of_a_file(), testing::KilledBySignal(SIGBUS), "");
}

}  // namespace
}  // namespace balloon::vmm::test
