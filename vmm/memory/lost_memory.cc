// SPDX-License-Identifier: Apache-2.0
#include "vmm/memory/lost_memory.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <span>

#include "vmm/memory/guest_memory.h"

namespace balloon::vmm {
namespace {

constexpr int kExitFailure = 1;
// Made before, because the handler may call next to nothing.
std::array<char, 512> message;
std::size_t message_size = 0;
/// Below the PCI hole and above it.
constexpr std::size_t kMostRegions = 2;
struct Addresses {
  std::atomic<std::uintptr_t> begin = 0;
  std::atomic<std::uintptr_t> end = 0;
};
std::array<Addresses, kMostRegions> guest_memory;

void on_bus_error(int signal, siginfo_t* info, void* /*context*/) {
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  for (const Addresses& region : guest_memory) {
    if (address < region.begin || address >= region.end) continue;
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, message.data(), message_size);
    ::_exit(kExitFailure);
  }
  // The access is made again, and ends the process with a core dump.
  std::signal(signal, SIG_DFL);
}

}  // namespace

void tell_of_lost_memory(std::string_view guest) {
  const auto made = fmt::format_to_n(
      message.begin(), message.size(),
      "balloon-vmm: guest '{}' ends: the host has no page for a part of its memory that it gave back and "
      "uses "
      "still: its driver is broken, or the host's pool of huge pages too small (vm.nr_hugepages, "
      "vm.nr_overcommit_hugepages; docs/memory.md)\n",
      guest);
  message_size = std::min(made.size, message.size());
  struct sigaction action = {};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO;
  sigemptyset(&action.sa_mask);
  ::sigaction(SIGBUS, &action, nullptr);
}

void set_guest_memory(const GuestMemory& memory) {
  for (std::size_t i = 0; i < kMostRegions; ++i) {
    const bool there = i < memory.regions().size();
    const std::span<const std::byte> host = there ? memory.regions()[i].host : std::span<std::byte>{};
    guest_memory[i].begin = reinterpret_cast<std::uintptr_t>(host.data());
    guest_memory[i].end = reinterpret_cast<std::uintptr_t>(host.data()) + host.size();
  }
}

}  // namespace balloon::vmm
