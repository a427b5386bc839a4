// SPDX-License-Identifier: Apache-2.0
// Guests of a few instructions on every kind of memory, and with more of it than lies below the PCI hole.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <iterator>

#include "tests/unit/vmm/address_literals.h"
#include "tests/unit/vmm/machine/bare_kernel.h"
#include "tests/unit/vmm/memory/lent_pool.h"
#include "vmm/arch/x86_64/gdt.h"
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

/// A guest in 64-bit mode that reaches above 4 GiB. (Some backends of KVM know no paging in 32-bit mode.)
class LongModeCode : public Code {
 public:
  /// Maps the huge page of each of `addresses`, and the first 2 MiB, where they are.
  explicit LongModeCode(std::initializer_list<std::uint64_t> addresses) {
    entry(kTables, kPointers | kTable);
    std::uint32_t directory = kPointers;
    for (const std::uint64_t address : addresses) {
      directory += kPageSize;
      entry(kPointers + static_cast<std::uint32_t>(address / 1_GiB) * 8, directory | kTable);
      entry(directory + static_cast<std::uint32_t>(address % 1_GiB / kHugePageSize) * 8,
            address / kHugePageSize * kHugePageSize | kTable | kHuge);
    }
    raw({0x0f, 0x20, 0xe0, 0x83, 0xc8, 0x20, 0x0f, 0x22, 0xe0});                  // CR4.PAE
    load_eax(kTables).raw({0x0f, 0x22, 0xd8});                                    // CR3
    raw({0xb9, 0x80, 0, 0, 0xc0, 0x31, 0xd2}).load_eax(0x100).raw({0x0f, 0x30});  // EFER.LME
    raw({0x0f, 0x20, 0xc0, 0x0d, 0, 0, 0, 0x80, 0x0f, 0x22, 0xc0});               // CR0.PG
    constexpr std::uint32_t kJump = 7;                                            // its length
    raw({0xea});
    immediate(kStart + static_cast<std::uint32_t>(bytes().size()) - 1 + kJump, 4);
    raw({gdt::kCode64, 0});
  }
  LongModeCode& store(std::uint64_t address, std::uint32_t value) {
    at(address).raw({0xc7, 0x03});  // mov dword [rbx], value
    immediate(value, 4);
    return *this;
  }
  LongModeCode& print_value(std::uint64_t address) {
    at(address).raw({0x8b, 0x03}).print_eax();  // mov eax, [rbx]
    return *this;
  }

 private:
  static constexpr std::uint32_t kStart = 0x100000, kTables = 0x110000, kPointers = 0x111000;
  static constexpr std::uint64_t kTable = 3, kHuge = 0x80;  // present and writable; a page, no table

  void entry(std::uint32_t at, std::uint64_t value) {
    load_eax(static_cast<std::uint32_t>(value)).store_eax(at);
    load_eax(static_cast<std::uint32_t>(value >> 32)).store_eax(at + 4);
  }
  LongModeCode& at(std::uint64_t address) {  // mov rbx, address
    raw({0x48, 0xbb});
    return immediate(address, 8);
  }
  LongModeCode& immediate(std::uint64_t value, int size) {
    for (int i = 0; i < size; ++i) raw({static_cast<std::uint8_t>(value >> (8 * i))});
    return *this;
  }
};

TEST_F(BareMemoryTest, AGuestOf6GiBReachesAllOfItOnBothSidesOfTheHoleAndNothingBeyond) {
  constexpr std::uint64_t kLastLow = 3_GiB - 4, kFirstHigh = 4_GiB, kLastHigh = 7_GiB - 4, kBeyond = 7_GiB;
  LongModeCode code{0, kLastLow, kFirstHigh, kLastHigh, kBeyond};
  code.store(kLastLow, 0x31313131).store(kFirstHigh, 0x32323232).store(kLastHigh, 0x33333333);
  code.store(kBeyond, 0x34343434);
  code.print_value(kLastLow).print_value(kFirstHigh).print_value(kLastHigh).print_value(kBeyond).power_off();

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
