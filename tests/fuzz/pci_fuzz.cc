// SPDX-License-Identifier: Apache-2.0
// Accesses of any kind to the PCI configuration ports and to the BARs of a virtio function, with each of its
// interfaces; and its state, restored from anything.
#include <memory>

#include "tests/fuzz/fuzz.h"
#include "tests/unit/vmm/pci/guest_pci.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/event_loop.h"
#include "vmm/pci/pci_root.h"
#include "vmm/pci/virtio_pci.h"
#include "vmm/snapshot/state_stream.h"

namespace balloon::vmm::fuzz {
namespace {

using test::bus_read;
using test::bus_write;
using test::ConfigPorts;
using test::FakeDevice;
using test::FakePciHost;

struct Function {
  Function(const GuestMemory& memory, EventLoop& loop, const TransportConfig& config) {
    require(ports.add("PCI", layout::kPciConfigAddressPort, PciRoot::kPorts, *root).has_value(), "the ports");
    auto made = VirtioPci::create(std::make_unique<FakeDevice>(), memory, loop, host, spaces, config);
    require(made.has_value() && root->add(std::move(*made)).has_value(), "the function");
  }
  ~Function() { root.reset(); }
  FakePciHost host;
  Bus ports;
  Bus mmio;
  PciSpaces spaces{mmio, ports};
  std::unique_ptr<PciRoot> root = std::make_unique<PciRoot>(spaces);
};

template <typename T>
void access(Input& input, Bus& bus, std::uint64_t address) {
  if (input.below(2) == 0) {
    bus_write<T>(bus, address, input.take<T>());
  } else {
    (void)bus_read<T>(bus, address);
  }
}

void access(Input& input, Bus& bus, std::uint64_t address) {
  const Turn turn;
  switch (input.take<std::uint8_t>() % 4) {
    case 0:
      return access<std::uint8_t>(input, bus, address);
    case 1:
      return access<std::uint16_t>(input, bus, address);
    case 2:
      return access<std::uint32_t>(input, bus, address);
    default:
      return access<std::uint64_t>(input, bus, address);
  }
}

void run(Input& input) {
  static const GuestMemory memory = *GuestMemory::create(2 * kMiB);
  static const std::unique_ptr<EventLoop> loop = *EventLoop::create("fuzz");
  constexpr std::array kInterfaces = {VirtioInterface::modern, VirtioInterface::transitional,
                                      VirtioInterface::legacy};
  const auto kind = input.take<std::uint8_t>();
  Function function(memory, *loop, {.interface = kInterfaces[kind % 3], .packed_rings = (kind & 4) != 0});
  ConfigPorts config(function.ports, 1);
  config.enable_io_and_memory();
  if ((kind & 8) != 0) {  // a state that somebody made up
    const auto bytes = input.bytes(input.below(2048));
    StateReader reader(std::as_bytes(bytes));
    (void)function.root->load(reader);
  }
  const std::uint32_t bars[] = {config.read<std::uint32_t>(0x10) & ~15U,
                                config.read<std::uint32_t>(0x14) & ~15U};
  while (!input.empty()) {
    const std::uint32_t place = input.take<std::uint16_t>();
    switch (input.take<std::uint8_t>() % 4) {
      case 0: {
        bus_write<std::uint32_t>(function.ports, 0xcf8, 0x80000000U | 1U << 11 | (place & 0xfc));
        access(input, function.ports, 0xcfc + place % 4);
        break;
      }
      case 1:
        access(input, function.ports, bars[place & 1] + (place >> 1) % 64);
        break;
      default:
        // The registers of the common configuration most of all.
        access(input, function.mmio, bars[place & 1] + (place % 3 != 0 ? (place >> 2) % 64 : (place >> 1)));
    }
  }
  StateWriter state;
  (void)function.root->save(state);
  require(state.bytes().size() < kMiB.count(), "the state of a function has no end");
}

}  // namespace

std::vector<Bytes8> seeds() {
  std::vector<Bytes8> all;
  for (const std::uint8_t kind : std::initializer_list<std::uint8_t>{0, 1, 2, 4, 8}) {
    Bytes8 seed{kind};
    for (std::uint8_t i = 0; i < 64; ++i) {
      const Bytes8 one{static_cast<std::uint8_t>(i * 4),
                       0,
                       static_cast<std::uint8_t>(i % 4),
                       2,
                       static_cast<std::uint8_t>(i % 2),
                       0,
                       i,
                       0,
                       0,
                       0};
      seed.insert(seed.end(), one.begin(), one.end());
    }
    all.push_back(seed);
  }
  return all;
}

}  // namespace balloon::vmm::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return balloon::vmm::fuzz::run_within_limits(balloon::vmm::fuzz::run, data, size);
}
