// SPDX-License-Identifier: Apache-2.0
// KVM's structures that end in an array: a count, another word, then the entries.
//
// <linux/kvm.h> of Linux 6.1.y declares such arrays behind an empty struct, which has size 0 in C and 1 in
// C++. So both their offset and the structure's size, which is part of the ioctl's number, come out wrong in
// C++. This is their true layout.
#pragma once

#include <linux/kvm.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace balloon::vmm {

struct KvmListHeader {
  std::uint32_t count = 0;
  std::uint32_t reserved = 0;
};

inline constexpr unsigned long kKvmGetSupportedCpuid = _IOWR(KVMIO, 0x05, KvmListHeader);
inline constexpr unsigned long kKvmSetGsiRouting = _IOW(KVMIO, 0x6a, KvmListHeader);
inline constexpr unsigned long kKvmGetMsrs = _IOWR(KVMIO, 0x88, KvmListHeader);
inline constexpr unsigned long kKvmSetMsrs = _IOW(KVMIO, 0x89, KvmListHeader);
/// struct kvm_msr_list: a count and 32-bit indices.
inline constexpr unsigned long kKvmGetMsrIndexList = _IOWR(KVMIO, 0x02, std::uint32_t);
inline constexpr unsigned long kKvmSetCpuid2 = _IOW(KVMIO, 0x90, KvmListHeader);

template <typename Entry>
class KvmList {
 public:
  /// `size` zeroed entries.
  explicit KvmList(std::size_t size) : bytes_(sizeof(KvmListHeader) + size * sizeof(Entry)) {
    const KvmListHeader header{.count = static_cast<std::uint32_t>(size)};
    std::memcpy(bytes_.data(), &header, sizeof(header));
  }
  explicit KvmList(std::span<const Entry> entries) : KvmList(entries.size()) {
    std::memcpy(bytes_.data() + sizeof(KvmListHeader), entries.data(), entries.size_bytes());
  }
  /// For the ioctl.
  void* data() { return bytes_.data(); }
  std::size_t size() const { return (bytes_.size() - sizeof(KvmListHeader)) / sizeof(Entry); }
  /// What the kernel left there: as many as it says, and never more than were room.
  std::vector<Entry> entries() const {
    KvmListHeader header;
    std::memcpy(&header, bytes_.data(), sizeof(header));
    const std::size_t room = (bytes_.size() - sizeof(header)) / sizeof(Entry);
    std::vector<Entry> entries(header.count < room ? header.count : room);
    std::memcpy(entries.data(), bytes_.data() + sizeof(header), entries.size() * sizeof(Entry));
    return entries;
  }

 private:
  std::vector<std::byte> bytes_;
};

}  // namespace balloon::vmm
