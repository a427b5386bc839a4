// Guests of a few instructions on every kind of memory, and with more of it than lies below the PCI hole.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests/unit/vmm/machine/bare_kernel.h"
#include "tests/unit/vmm/memory/lent_pool.h"
#include "vmm/machine/machine.h"

namespace balloon::vmm::test {
namespace {

class BareMemoryTest : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directories(directory_);
    config_.name = "bare";
    config_.memory = 64 * kMiB;
    config_.boot.kernel = directory_ / "kernel";
    config_.serial = {SerialConfig::Kind::file, directory_ / "serial"};
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  /// What the guest printed before it powered off; or why it did not.
  std::string run(const Code& code) {
    write_kernel(config_.boot.kernel, code);
    const auto kvm = Kvm::open();
    if (!kvm) return kvm.error().message;
    const auto loop = std::move(*EventLoop::create("test-loop"));
    const auto serial = std::move(*SerialBackend::create(config_.serial, *loop));
    {
      const auto machine = Machine::create(config_, {.kvm = *kvm, .loop = *loop, .serial = *serial});
      if (!machine) return machine.error().message;
      (*machine)->start();
      pollfd ended{.fd = (*machine)->outcome().fd(), .events = POLLIN, .revents = 0};
      if (::poll(&ended, 1, 30'000) != 1) return "it did not end within 30 s";
      const auto outcome = *(*machine)->outcome().get();
      if (outcome.ending != Ending::power_off) return outcome.why;
    }
    std::ifstream file(config_.serial.path, std::ios::binary);
    std::string printed{std::istreambuf_iterator<char>(file), {}};
    std::filesystem::resize_file(config_.serial.path, 0);
    return printed;
  }

  const std::filesystem::path directory_ =
      std::filesystem::temp_directory_path() / ("bare-memory-" + std::to_string(::getpid()));
  VmmConfig config_;
};

/// A page directory entry of 2 MiB that maps `address`, written where the guest's tables are.
void map_huge_page(Code& code, std::uint32_t entry, std::uint64_t address) {
  constexpr std::uint32_t kPresentWritableHuge = 0x83;
  code.load_eax(static_cast<std::uint32_t>(address) | kPresentWritableHuge).store_eax(entry);
  code.load_eax(static_cast<std::uint32_t>(address >> 32)).store_eax(entry + 4);
}

TEST_F(BareMemoryTest, AGuestOf6GiBReachesAllOfItOnBothSidesOfTheHoleAndNothingBeyond) {
  constexpr std::uint32_t kPointers = 0x200000, kLowDirectory = 0x201000, kDirectory = 0x202000;
  constexpr std::uint32_t kWindow = 0x40000000;  // where the second directory's pages appear, 2 MiB each
  constexpr std::uint64_t kEnd = 7 * kGiB;
  Code code;
  code.load_eax(kLowDirectory | 1).store_eax(kPointers);
  code.load_eax(kDirectory | 1).store_eax(kPointers + 8);
  map_huge_page(code, kLowDirectory, 0);  // the code itself
  map_huge_page(code, kDirectory, 3 * kGiB - kHugePageSize);
  map_huge_page(code, kDirectory + 8, 4 * kGiB);
  map_huge_page(code, kDirectory + 16, kEnd - kHugePageSize);
  map_huge_page(code, kDirectory + 24, kEnd);
  code.raw({0x0f, 0x20, 0xe0, 0x83, 0xc8, 0x20, 0x0f, 0x22, 0xe0});     // CR4.PAE
  code.load_eax(kPointers).raw({0x0f, 0x22, 0xd8});                     // CR3
  code.raw({0x0f, 0x20, 0xc0, 0x0d, 0, 0, 0, 0x80, 0x0f, 0x22, 0xc0});  // CR0.PG
  const std::uint32_t last_low = kWindow + kHugePageSize - 4, first_high = kWindow + kHugePageSize,
                      last_high = kWindow + 3 * kHugePageSize - 4, beyond = kWindow + 3 * kHugePageSize;
  code.load_eax(0x31313131).store_eax(last_low);
  code.load_eax(0x32323232).store_eax(first_high);
  code.load_eax(0x33333333).store_eax(last_high);
  code.load_eax(0x34343434).store_eax(beyond);
  for (const std::uint32_t at : {last_low, first_high, last_high, beyond}) code.fetch_eax(at).print_eax();
  code.power_off();

  config_.memory = 6 * kGiB;
  EXPECT_EQ(run(code), "111122223333\xff\xff\xff\xff");
  config_.memory_backing.shared = true;
  EXPECT_EQ(run(code), "111122223333\xff\xff\xff\xff") << "shared";
}

TEST_F(BareMemoryTest, AGuestRunsOnEveryKindOfMemory) {
  const LentPool pool(32);
  const Code hello = Code().print("hello").power_off();
  for (const MemoryBacking& backing :
       {MemoryBacking{}, MemoryBacking{.huge_pages = HugePages::off},
        MemoryBacking{.huge_pages = HugePages::two_mib}, MemoryBacking{.shared = true},
        MemoryBacking{.merge = true}, MemoryBacking{.reserve = true}, MemoryBacking{.preallocate = true},
        MemoryBacking{.lock = true}, MemoryBacking{.huge_pages = HugePages::two_mib, .preallocate = true}}) {
    config_.memory_backing = backing;
    EXPECT_EQ(run(hello), "hello") << "huge pages " << static_cast<int>(backing.huge_pages) << ", shared "
                                   << backing.shared << ", merge " << backing.merge << ", lock "
                                   << backing.lock;
  }
}

}  // namespace
}  // namespace balloon::vmm::test
