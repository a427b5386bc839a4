// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/heap.h"

#include <malloc.h>

#include <atomic>
#include <cstdlib>
#include <new>

namespace balloon::vmm::fuzz {
namespace {

std::atomic<std::uint64_t> now = 0;
std::atomic<std::uint64_t> peak = 0;

void* count(void* memory) {
  if (memory == nullptr) throw std::bad_alloc();
  const std::uint64_t size = ::malloc_usable_size(memory);
  const std::uint64_t with = now.fetch_add(size, std::memory_order_relaxed) + size;
  for (std::uint64_t most = peak.load(std::memory_order_relaxed); with > most;) {
    if (peak.compare_exchange_weak(most, with, std::memory_order_relaxed)) break;
  }
  return memory;
}

void discount(void* memory) {
  now.fetch_sub(::malloc_usable_size(memory), std::memory_order_relaxed);
  std::free(memory);
}

}  // namespace

Bytes heap_now() { return Bytes{now.load(std::memory_order_relaxed)}; }
Bytes heap_peak() { return Bytes{peak.load(std::memory_order_relaxed)}; }
void forget_heap_peak() { peak.store(now.load(std::memory_order_relaxed), std::memory_order_relaxed); }

}  // namespace balloon::vmm::fuzz

// The other forms of new and delete call these ([new.delete]).
void* operator new(std::size_t size) { return balloon::vmm::fuzz::count(std::malloc(size)); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  const auto align = static_cast<std::size_t>(alignment);
  return balloon::vmm::fuzz::count(std::aligned_alloc(align, (size + align - 1) / align * align));
}
// A sanitizer has forms of its own; what this one gives goes back by the delete below.
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  void* const memory = std::malloc(size);
  return memory == nullptr ? nullptr : balloon::vmm::fuzz::count(memory);
}
void operator delete(void* memory) noexcept {
  if (memory != nullptr) balloon::vmm::fuzz::discount(memory);
}
void operator delete(void* memory, std::size_t) noexcept { operator delete(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { operator delete(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { operator delete(memory); }
