// SPDX-License-Identifier: Apache-2.0
// Kernels of a few instructions for tests on real KVM.
#pragma once

#include <cstdint>
#include <cstring>
#include <fstream>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace balloon::vmm::test {

/// An ELF file with a PVH entry note (Xen's XEN_ELFNOTE_PHYS32_ENTRY, 18) whose only segment is `code` at 1
/// MiB: what load_kernel() takes.
inline std::vector<std::uint8_t> make_kernel(const std::vector<std::uint8_t>& code) {
  constexpr std::uint32_t kEntry = 0x100000;
  constexpr std::size_t kHeader = 64, kProgramHeader = 56, kNoteAt = kHeader + 2 * kProgramHeader,
                        kCodeAt = 0x200;
  std::vector<std::uint8_t> file(kCodeAt + code.size());
  const auto put = [&](std::size_t offset, auto value) {
    std::memcpy(file.data() + offset, &value, sizeof value);
  };
  const std::uint8_t identity[] = {0x7f, 'E', 'L', 'F', 2, 1, 1};
  std::memcpy(file.data(), identity, sizeof identity);
  put(16, std::uint16_t{2});   // executable
  put(18, std::uint16_t{62});  // x86-64
  put(20, std::uint32_t{1});
  put(24, std::uint64_t{kEntry});
  put(32, std::uint64_t{kHeader});
  put(52, std::uint16_t{kHeader});
  put(54, std::uint16_t{kProgramHeader});
  put(56, std::uint16_t{2});
  const auto segment = [&](std::size_t at, std::uint32_t type, std::uint64_t offset, std::uint64_t address,
                           std::uint64_t size, std::uint64_t align) {
    put(at, type);
    put(at + 4, std::uint32_t{7});
    put(at + 8, offset);
    put(at + 16, address);
    put(at + 24, address);
    put(at + 32, size);
    put(at + 40, size);
    put(at + 48, align);
  };
  segment(kHeader, 1, kCodeAt, kEntry, code.size(), 0x200);
  segment(kHeader + kProgramHeader, 4, kNoteAt, 0, 20, 4);
  put(kNoteAt, std::uint32_t{4});
  put(kNoteAt + 4, std::uint32_t{4});
  put(kNoteAt + 8, std::uint32_t{18});
  std::memcpy(file.data() + kNoteAt + 12, "Xen", 4);
  put(kNoteAt + 16, kEntry);
  std::memcpy(file.data() + kCodeAt, code.data(), code.size());
  return file;
}

/// 32-bit instructions, put together.
class Code {
 public:
  Code& raw(std::initializer_list<std::uint8_t> bytes) {
    bytes_.insert(bytes_.end(), bytes);
    return *this;
  }
  Code& set_dx(std::uint16_t port) {  // mov dx, port
    return raw({0x66, 0xba, static_cast<std::uint8_t>(port), static_cast<std::uint8_t>(port >> 8)});
  }
  Code& out8(std::uint16_t port, std::uint8_t value) { return set_dx(port).raw({0xb0, value, 0xee}); }
  Code& out32(std::uint16_t port, std::uint32_t value) { return set_dx(port).load_eax(value).raw({0xef}); }
  Code& in32(std::uint16_t port) { return set_dx(port).raw({0xed}); }
  Code& load_eax(std::uint32_t value) { return raw({0xb8}).word(value); }
  Code& load_ecx(std::uint32_t value) { return raw({0xb9}).word(value); }
  Code& store_eax(std::uint32_t address) { return raw({0xa3}).word(address); }
  Code& fetch_eax(std::uint32_t address) { return raw({0xa1}).word(address); }
  /// Sends EAX, EBX, ECX and EDX of a leaf.
  Code& print_cpuid(std::uint32_t leaf, std::uint32_t subleaf) {
    load_eax(leaf).load_ecx(subleaf).raw({0x0f, 0xa2}).store_eax(kScratch);
    raw({0x89, 0x1d}).word(kScratch + 4).raw({0x89, 0x0d}).word(kScratch + 8);  // mov [...], ebx; ecx
    raw({0x89, 0x15}).word(kScratch + 12);                                      // edx
    for (std::uint32_t i = 0; i < 4; ++i) fetch_eax(kScratch + 4 * i).print_eax();
    return *this;
  }
  Code& write_msr(std::uint32_t msr, std::uint32_t value) {
    return load_ecx(msr).load_eax(value).raw({0x31, 0xd2, 0x0f, 0x30});  // xor edx, edx; wrmsr
  }
  /// Sends AL, AH and so on as they are.
  Code& print_eax() {
    for (int i = 0; i < 4; ++i) set_dx(kSerial).raw({0xee, 0xc1, 0xe8, 0x08});  // out dx, al; shr eax, 8
    return *this;
  }
  Code& print(std::string_view text) {
    for (const char c : text) out8(kSerial, static_cast<std::uint8_t>(c));
    return *this;
  }
  Code& power_off() { return out8(0x600, 1U << 5 | 5U << 2).halt(); }
  Code& halt() { return raw({0xf4, 0xeb, 0xfd}); }
  const std::vector<std::uint8_t>& bytes() const { return bytes_; }

 private:
  static constexpr std::uint16_t kSerial = 0x3f8;
  static constexpr std::uint32_t kScratch = 0x300000;
  Code& word(std::uint32_t value) {
    for (int i = 0; i < 4; ++i) bytes_.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
    return *this;
  }
  std::vector<std::uint8_t> bytes_;
};

inline void write_kernel(const std::string& path, const Code& code) {
  const auto kernel = make_kernel(code.bytes());
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(kernel.data()), static_cast<std::streamsize>(kernel.size()));
}

}  // namespace balloon::vmm::test
