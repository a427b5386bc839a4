// SPDX-License-Identifier: Apache-2.0
// Knows which pages of guest RAM nobody has written since it started, whoever writes: a vCPU, a device of
// this process, the kernel for one of them. By userfaultfd(2)'s write protection.
#pragma once

#include <memory>
#include <thread>

#include "base/error.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "vmm/memory/guest_memory.h"

namespace balloon::vmm {

class WriteWatch {
 public:
  /// Every first write to a huge page costs its writer a trip through a thread of this, as long as it lives.
  /// `memory` must outlive it. Fails when the host does not allow userfaultfd, and for pages of a pool.
  static Result<std::unique_ptr<WriteWatch>> start(const GuestMemory& memory);
  ~WriteWatch();
  WriteWatch(const WriteWatch&) = delete;
  WriteWatch& operator=(const WriteWatch&) = delete;

  /// Releases those pages of `range` that nobody will miss: not written since the start, or all zeros (as a
  /// guest leaves them that clears what it allocates). Whoever writes one meanwhile waits, and then writes to
  /// a fresh page; so no write is lost.
  Result<GuestMemory::Released> release_unwritten(GuestRange range);

 private:
  WriteWatch(const GuestMemory& memory, UniqueFd faults, UniqueFd page_map, UniqueFd stop);
  Result<void> protect(std::span<std::byte> host, bool on) const;
  Result<void> release_piece(GuestAddress start, std::span<std::byte> host, GuestMemory::Released& sum)
      REQUIRES(mutex_);
  void let_writers_pass(std::uint64_t address) EXCLUDES(mutex_);
  void serve();

  const GuestMemory& memory_;
  UniqueFd faults_;
  UniqueFd page_map_;
  UniqueFd stop_;
  /// Held while a page is looked at and released, and while a writer is let pass: one excludes the other.
  Mutex mutex_;
  std::jthread thread_;
};

}  // namespace balloon::vmm
