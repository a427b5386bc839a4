// SPDX-License-Identifier: Apache-2.0
// A driver that does what the input says to a network device (driven_device.h), and a host that sends frames
// meanwhile. The tap is in a network namespace of the program's own, which takes root.
#include <memory>
#include <optional>

#include "tests/fuzz/driven_device.h"
#include "tests/unit/vmm/devices/net/host_tap.h"
#include "vmm/devices/devices.h"
#include "vmm/devices/net/net.h"

namespace balloon::vmm::fuzz {
namespace {

constexpr Bytes kMemory = 64 * kMiB;
constexpr std::uint16_t kPairs = 2;

struct World {
  World() {
    require(::unshare(CLONE_NEWNET) == 0, "a network namespace: run this as root");
    tap.emplace(test::kTap, IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE);
    memory.emplace(*GuestMemory::create(kMemory));
    loop = *EventLoop::create("fuzz");
  }
  ~World() { loop.reset(); }
  std::optional<test::HostTap> tap;
  std::optional<GuestMemory> memory;
  std::unique_ptr<EventLoop> loop;
  VhostKernel kernel;
};

/// The first byte: how many queue pairs, which offloads the tap has, and whether rates are limited.
std::unique_ptr<Net> make_net(World& world, std::uint8_t kind) {
  const NetConfig config{.tap = test::kTap,
                         .mac = MacAddress{2, 0, 0, 0, 0, 7},
                         .queues = (kind & 1) != 0 ? kPairs : 1U,
                         .offload = (kind & 2) != 0,
                         .mtu = (kind & 4) != 0 ? NetConfig::kMaxMtu : 0,
                         .link = (kind & 8) == 0,
                         .rate = {.bytes = (kind & 16) != 0 ? kMiB : Bytes{0}}};
  const auto port = open_net_port(config);
  require(port.has_value(), "the tap");
  auto net = Net::create(config, *port, *world.memory, *world.loop, world.kernel);
  require(net.has_value(), "the device");
  return std::move(*net);
}

void run(Input& input) {
  static World world;
  auto net = make_net(world, input.take<std::uint8_t>());
  drive(input, *net, *world.memory, [&] {
    switch (input.below(4)) {
      case 0:
        return net->set_link(input.below(2) != 0);
      case 1:
        return (void)net->announce();
      default:
        try {
          world.tap->send(test::frame(60 + input.below(1455), input.take<std::uint8_t>()));
        } catch (const std::runtime_error&) {  // the cable is out, or the tap's queue is full
        }
    }
  });
  const NetCounters counted = net->counters();
  require(counted.sent < 1U << 20 && counted.received < 1U << 20, "more frames than were there");
  const Turn end;
  net.reset();
}

}  // namespace

std::vector<Bytes8> seeds() {
  std::vector<Bytes8> all;
  for (const std::uint8_t kind : std::initializer_list<std::uint8_t>{0, 1, 2, 3, 6, 16, 19}) {
    all.push_back(driven_seed({kind}, kPageLong));
    all.push_back(driven_seed({kind}, kEightMiBLong));
  }
  return all;
}

}  // namespace balloon::vmm::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return balloon::vmm::fuzz::run_within_limits(balloon::vmm::fuzz::run, data, size);
}
