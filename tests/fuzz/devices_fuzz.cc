// A driver that does what the input says to one of the devices: chains of any shape and length on each of its
// queues, configuration, resets. The input's first byte chooses the device.
#include <sys/mman.h>

#include <memory>
#include <optional>
#include <stdexcept>
#include <thread>

#include "base/unique_fd.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/vmm/virtio/fake_driver.h"
#include "vmm/devices/balloon/balloon.h"
#include "vmm/devices/block/block.h"
#include "vmm/devices/console/console.h"
#include "vmm/devices/rng/rng.h"

namespace balloon::vmm::fuzz {
namespace {

using test::ChainBuilder;
using test::FakeDriver;
using test::FakeQueue;

constexpr Bytes kMemory = 64 * kMiB;
constexpr GuestAddress kPlayground = 16 * kMiB;
constexpr std::size_t kMostSteps = 200;

/// A reader that now and then is behind.
class Reader final : public SerialBackend {
 public:
  void transmit(std::byte) override {}
  std::size_t transmit_some(std::span<const iovec> buffers) override {
    if (++calls_ % 7 == 0) {
      if (SerialSink* const sink = sink_) late_ = sink;
      return 0;
    }
    std::size_t taken = 0;
    for (const iovec& buffer : buffers) taken += buffer.iov_len;
    return taken;
  }
  void attach(SerialSink* sink) override {
    sink_ = sink;
    late_ = nullptr;
  }
  void catch_up() {
    if (SerialSink* const sink = late_.exchange(nullptr)) sink->transmit_ready();
  }

 private:
  std::atomic<int> calls_ = 0;
  std::atomic<SerialSink*> sink_ = nullptr;
  std::atomic<SerialSink*> late_ = nullptr;
};

struct World {
  GuestMemory memory = *GuestMemory::create(kMemory);
  std::unique_ptr<EventLoop> loop = *EventLoop::create("fuzz");
  UniqueFd image{::memfd_create("image", MFD_CLOEXEC)};
  Reader reader;
};

std::unique_ptr<VirtioDevice> make_device(World& world, unsigned kind) {
  switch (kind % 5) {
    case 0:
      return *Balloon::create({.free_page_hinting = kind >= 128}, world.memory, *world.loop);
    case 1:
    case 2: {
      require(::ftruncate(world.image.get(), 0) == 0 && ::ftruncate(world.image.get(), 8 * kMiB) == 0,
              "the image");
      const BlockConfig config{.path = "/proc/self/fd/" + std::to_string(world.image.get()),
                               .format = BlockFormat::raw,
                               .engine = kind % 5 == 1 ? BlockEngine::threads : BlockEngine::automatic,
                               .lock = BlockLock::off,
                               .queues = 2};
      auto disk = open_disk(config);
      require(disk.has_value(), "opening the image");
      return *Block::create(config, std::move(*disk), *world.loop);
    }
    case 3:
      return *Console::create(world.reader, *world.loop);
    default:
      return *Rng::create({}, *world.loop);
  }
}

/// A chain of up to 16 buffers, all of them in the playground or wherever the input says.
void submit(Input& input, FakeQueue& queue) {
  ChainBuilder chain(queue);
  const unsigned buffers = 1 + input.below(16);
  std::array<std::byte, 32> head{};
  const auto bytes = input.bytes(input.below(static_cast<std::uint32_t>(head.size()) + 1));
  std::memcpy(head.data(), bytes.data(), bytes.size());
  if (!bytes.empty()) chain.readable(std::span(head).first(bytes.size()));
  for (unsigned i = 0; i < buffers; ++i) {
    const auto how = input.take<std::uint8_t>();
    const GuestAddress address = (how & 2) != 0 ? std::uint64_t{input.take<std::uint32_t>()} << (how >> 5)
                                                : kPlayground + (how & 0xfc) * 4096ULL;
    const std::uint32_t size = length(input);
    (how & 1) != 0 ? chain.writable_at(address, size) : chain.readable_at(address, size);
  }
  input.below(2) != 0 ? chain.submit_indirect() : chain.submit();
}

void run(Input& input) {
  static World world;
  const unsigned kind = input.take<std::uint8_t>();
  auto device = make_device(world, kind);
  {
    FakeDriver driver(*device, world.memory);
    driver.start(input.take<std::uint64_t>() | 1ULL << 28);
    const auto queues = static_cast<std::uint32_t>(device->queue_sizes().size());
    for (std::size_t step = 0; step < kMostSteps && !input.empty(); ++step) {
      const auto queue = static_cast<std::uint16_t>(input.below(queues));
      const Turn turn;
      try {
        switch (input.take<std::uint8_t>() % 8) {
          case 0:
          case 1:
          case 2:
            submit(input, driver.queue(queue));
            break;
          case 3:
          case 4:
            driver.kick(queue);
            break;
          case 5:
            if (device->config_size() >= 4) {
              const std::uint32_t place = input.below(device->config_size() - 3);
              driver.write_config<std::uint32_t>(place, input.take<std::uint32_t>());
              (void)driver.read_config<std::uint32_t>(place);
            }
            break;
          case 6:
            world.memory.write(kPlayground + input.take<std::uint16_t>(), input.take<std::uint64_t>());
            break;
          default:
            if (input.below(4) == 0) {
              driver.reset();
              driver.start();
            } else if (input.below(2) == 0) {
              driver.reset_queue(queue);
              driver.restart_queue(queue);
            } else {
              world.reader.catch_up();
            }
        }
      } catch (const std::runtime_error&) {
        return;  // the driver's own arena is full
      }
    }
    for (std::uint16_t i = 0; i < queues; ++i) driver.kick(i);
    std::this_thread::yield();
    const Turn end;
    driver.reset();
  }
  const Turn end;
  device.reset();
}

}  // namespace

std::vector<Bytes8> seeds() {
  std::vector<Bytes8> all;
  for (const std::uint8_t kind : std::initializer_list<std::uint8_t>{0, 1, 2, 3, 4, 130}) {
    Bytes8 seed{kind, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    for (std::uint8_t i = 0; i < 24; ++i) {
      // A chain of three buffers with a head of 16 bytes, on queue 0 or 1; then a kick.
      const Bytes8 steps{static_cast<std::uint8_t>(i % 2),
                         0,
                         0,
                         2,
                         0,
                         16,
                         0,
                         i,
                         0,
                         0,
                         0,
                         0,
                         0,
                         0,
                         0,
                         0,
                         0,
                         0,
                         0,
                         0,
                         0,
                         0,
                         0,
                         0x10,
                         5,
                         0x21,
                         5,
                         0x31,
                         1,
                         static_cast<std::uint8_t>(i / 2 % 2),
                         0,
                         static_cast<std::uint8_t>(i % 2),
                         0,
                         3};
      seed.insert(seed.end(), steps.begin(), steps.end());
    }
    all.push_back(seed);
  }
  return all;
}

}  // namespace balloon::vmm::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace balloon::vmm::fuzz;
  const Limits limits;
  Input input(std::span(data, size));
  run(input);
  return 0;
}
