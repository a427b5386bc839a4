// SPDX-License-Identifier: Apache-2.0
// Maps guest RAM of every kind. The system calls of GuestMemory::create(), apart from its bookkeeping.
#pragma once

#include <cstddef>
#include <span>

#include "base/error.h"
#include "base/unique_fd.h"
#include "vmm/memory/backing.h"

namespace balloon::vmm {

struct Mapping {
  std::span<std::byte> host;
  UniqueFd file;  ///< none: private memory
};

/// Maps `size` bytes at a multiple of the huge page size, so that guest and host agree where huge pages
/// start: only then can KVM map them into the guest, each saving 512 nested faults. Fails with what the host
/// lacks: address space, pool pages, the right to lock.
Result<Mapping> map_memory(Bytes size, const MemoryBacking& backing);

/// Allocates all of it, by several threads: the kernel clears each page, which one core does at a few GiB/s.
Result<void> populate(std::span<std::byte> host);

/// How many bytes of `host` the host holds in memory.
Bytes resident_bytes(std::span<const std::byte> host);

}  // namespace balloon::vmm
