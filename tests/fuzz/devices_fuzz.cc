// SPDX-License-Identifier: Apache-2.0
// A driver that does what the input says to one of the devices (driven_device.h). The input's first byte
// chooses the device. The network device, whose tap takes a namespace, has net_fuzz.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include <algorithm>
#include <memory>
#include <span>
#include <vector>

#include "base/unique_fd.h"
#include "tests/fuzz/driven_device.h"
#include "tests/fuzz/qcow2_images.h"
#include "tests/unit/vmm/memory/lent_pool.h"
#include "vmm/devices/balloon/balloon.h"
#include "vmm/devices/block/block.h"
#include "vmm/devices/console/console.h"
#include "vmm/devices/rng/rng.h"

namespace balloon::vmm::fuzz {
namespace {

constexpr Bytes kMemory = 64 * kMiB;
/// More than a request may have.
constexpr std::uint64_t kDisk = (256 * kMiB).count();
static_assert(kDisk > Block::kMaxRequest);

/// A reader that takes all, at the cost of a system call, but for when it is behind.
class Reader final : public SerialBackend {
 public:
  void transmit(std::byte) override {}
  std::size_t transmit_some(std::span<const iovec> buffers) override {
    if (behind_) {
      late_ = sink_.load();
      return 0;
    }
    const ssize_t taken = ::writev(null_.get(), buffers.data(), static_cast<int>(buffers.size()));
    require(taken > 0, "/dev/null");
    return static_cast<std::size_t>(taken);
  }
  void attach(SerialSink* sink) override {
    sink_ = sink;
    late_ = nullptr;
    behind_ = false;
  }
  /// It falls behind, or catches up.
  void turn() {
    behind_ = !behind_;
    if (SerialSink* const sink = behind_ ? nullptr : late_.exchange(nullptr)) sink->transmit_ready();
  }

 private:
  UniqueFd null_{::open("/dev/null", O_WRONLY | O_CLOEXEC)};
  std::atomic<bool> behind_ = false;
  std::atomic<SerialSink*> sink_ = nullptr;
  std::atomic<SerialSink*> late_ = nullptr;
};

struct World {
  test::LentPool pool{2 * static_cast<int>(kMemory.count() / kHugePageSize)};
  GuestMemory memory = *GuestMemory::create(kMemory);
  GuestMemory pool_memory = *GuestMemory::create(kMemory, {.huge_pages = HugePages::two_mib});
  std::unique_ptr<EventLoop> loop = *EventLoop::create("fuzz");
  UniqueFd image{::memfd_create("image", MFD_CLOEXEC)};
  Reader reader;
};

/// A list of pages at the beginning of the playground, for chains of the balloon: first one page of each huge
/// page, in RAM and far beyond; then every second page of RAM's upper half, again and again, so that the list
/// does not release itself.
void list_pages(const GuestMemory& memory) {
  constexpr std::uint32_t kPages = kMemory / balloon::kPageSize, kHuge = kHugePageSize / kPageSize;
  static const std::vector<std::uint32_t> list = [] {
    std::vector<std::uint32_t> pages;
    for (std::uint32_t i = 0; i < 1U << 20; ++i) pages.push_back(i * kHuge);
    for (std::uint32_t i = 0; i < 1U << 20; ++i) pages.push_back(kPages / 2 + (2 * i) % (kPages / 2));
    return pages;
  }();
  const auto bytes = std::as_bytes(std::span(list));
  std::ranges::copy(bytes, memory.at(kPlayground, bytes.size())->begin());
}

std::unique_ptr<VirtioDevice> make_disk(World& world, BlockFormat format, BlockEngine engine) {
  const BlockConfig config{.path = "/proc/self/fd/" + std::to_string(world.image.get()),
                           .format = format,
                           .engine = engine,
                           .lock = BlockLock::off,
                           .queues = 2};
  auto disk = open_disk(config);
  require(disk.has_value(), "opening the image");
  return *Block::create(config, std::move(*disk), *world.loop);
}

void write_image(World& world, std::span<const std::uint8_t> bytes, std::uint64_t size) {
  const int file = world.image.get();
  require(::ftruncate(file, 0) == 0 && ::ftruncate(file, static_cast<off_t>(size)) == 0 &&
              ::pwrite(file, bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()),
          "the image");
}

enum Kind : unsigned { balloon, disk, disk_of_threads, console, rng, balloon_on_pool, qcow2_disk, kKinds };

std::unique_ptr<VirtioDevice> make_device(World& world, unsigned kind) {
  static const Bytes8 fragmented = fragmented_image();
  switch (kind % kKinds) {
    case balloon:
    case balloon_on_pool: {
      const GuestMemory& memory = kind % kKinds == balloon ? world.memory : world.pool_memory;
      list_pages(memory);
      return *Balloon::create({.free_page_hinting = kind >= 128}, memory, *world.loop);
    }
    case disk:
    case disk_of_threads:
      write_image(world, {}, kDisk);
      return make_disk(world, BlockFormat::raw,
                       kind % kKinds == disk ? BlockEngine::automatic : BlockEngine::threads);
    case qcow2_disk:
      write_image(world, fragmented, fragmented.size());
      return make_disk(world, BlockFormat::qcow2, BlockEngine::automatic);
    case console:
      return *Console::create(world.reader, *world.loop);
    default:
      return *Rng::create({}, *world.loop);
  }
}

void run(Input& input) {
  static World world;
  const unsigned kind = input.take<std::uint8_t>();
  auto device = make_device(world, kind);
  drive(input, *device, kind % kKinds == balloon_on_pool ? world.pool_memory : world.memory,
        [] { world.reader.turn(); });
  const Turn end;
  device.reset();
}

}  // namespace

std::vector<Bytes8> seeds() {
  std::vector<Bytes8> all;
  for (const std::uint8_t size : {kPageLong, kEightMiBLong}) {
    for (std::uint8_t kind = 0; kind < kKinds; ++kind) all.push_back(driven_seed({kind}, size));
    all.push_back(driven_seed({19 * kKinds + balloon}, size));  // with free page hinting
  }
  for (std::uint8_t kind = 0; kind < kKinds; ++kind) {
    for (const bool writable : {false, true}) {
      all.push_back(greedy_seed({kind}, writable, 0xff));
      all.push_back(greedy_seed({kind}, writable, 0xfe));  // without VIRTIO_BALLOON_F_MUST_TELL_HOST
    }
  }
  return all;
}

}  // namespace balloon::vmm::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return balloon::vmm::fuzz::run_within_limits(balloon::vmm::fuzz::run, data, size);
}
