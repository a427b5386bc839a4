#include "vmm/devices/net/net.h"

#include <fmt/format.h>
#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/log.h"
#include "vmm/virtio/iovecs.h"

namespace balloon::vmm {
namespace {

constexpr std::array<std::uint16_t, 2> kQueueSizes = {Net::kQueueSize, Net::kQueueSize};
constexpr std::uint16_t kLinkUp = 1;  // VIRTIO_NET_S_LINK_UP

// The first byte of a MAC address (IEEE 802, 8.2).
constexpr std::uint8_t kMulticast = 1;
constexpr std::uint8_t kLocallyAdministered = 2;

/// No offload is in any frame; num_buffers is 1 (5.1.6.4.1).
constexpr std::array<std::byte, Net::kHeaderSize> kReceiveHeader = {
    {{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, std::byte{1}}};

Result<MacAddress> random_mac() {
  MacAddress mac;
  if (::getrandom(mac.data(), mac.size(), 0) != static_cast<ssize_t>(mac.size())) {
    return fail_errno("making a MAC address", errno);
  }
  mac[0] = static_cast<std::uint8_t>((mac[0] & ~kMulticast) | kLocallyAdministered);
  return mac;
}

}  // namespace

Result<std::unique_ptr<VirtioDevice>> make_net(const NetConfig& config, const GuestMemory& /*memory*/,
                                               EventLoop& loop) {
  auto net = Net::create(config, loop);
  if (!net) return std::unexpected(std::move(net.error()));
  return std::move(*net);
}

Result<std::unique_ptr<Net>> Net::create(const NetConfig& config, EventLoop& loop) {
  auto mac = config.mac ? Result<MacAddress>(*config.mac) : random_mac();
  if (!mac) return fail(fmt::format("tap {}", config.tap), mac.error());
  if (((*mac)[0] & kMulticast) != 0) {
    return fail(fmt::format("tap {}: a guest cannot have a multicast MAC address (its first byte is odd)",
                            config.tap));
  }
  auto tap = Tap::open(config.tap);
  if (!tap) return std::unexpected(std::move(tap.error()));
  std::unique_ptr<Net> net(new Net("net " + config.tap, *mac, std::move(*tap), loop));
  auto queues = DeviceQueues::create(*net, loop);
  if (!queues) return std::unexpected(std::move(queues.error()));
  net->queues_ = std::move(*queues);
  return net;
}

Net::Net(std::string name, MacAddress mac, Tap tap, EventLoop& loop)
    : name_(std::move(name)), space_{.mac = mac, .status = kLinkUp}, tap_(std::move(tap)), loop_(loop) {}

Net::~Net() {
  {
    const std::lock_guard lock(mutex);
    drop_queues();
  }
  loop_.unwatch(tap_.fd());
  queues_.reset();
}

std::uint64_t Net::offered_features() const {
  return kFeatureIndirectDesc | kFeatureEventIdx | kFeatureMac | kFeatureStatus;
}

std::span<const std::uint16_t> Net::queue_sizes() const { return kQueueSizes; }

std::uint32_t Net::config_size() const { return sizeof(ConfigSpace); }

void Net::read_config(std::uint32_t offset, std::span<std::byte> into) {
  static_assert(sizeof(ConfigSpace) == 8);
  std::memcpy(into.data(), std::as_bytes(std::span(&space_, 1)).data() + offset, into.size());
}

void Net::write_config(std::uint32_t /*offset*/, std::span<const std::byte> /*from*/) {}

void Net::activate(std::uint64_t /*features*/, std::vector<std::unique_ptr<VirtQueue>> queues) {
  queues_->start(host(), std::move(queues));
}

void Net::process_queue(std::uint16_t index) {
  switch (static_cast<Queue>(index)) {
    case Queue::receive:
      watch_tap();  // there is room again
      break;
    case Queue::send:
      queues_->serve(index, [this](VirtQueue& queue, Chain chain) {
        send(chain);
        queue.put(std::move(chain), 0);
      });
      break;
  }
}

void Net::reset() { drop_queues(); }

void Net::drop_queues() {
  if (buffer_) VirtQueue::forget(std::move(*buffer_));
  buffer_.reset();
  if (queues_) queues_->stop();
}

void Net::watch_tap() {
  if (watching_ || space_.status != kLinkUp) return;
  const auto watched = loop_.watch(tap_.fd(), [this] {
    const std::lock_guard lock(mutex);
    receive();
  });
  if (!watched) log::error("{}: {}", name_, watched.error().message);
  watching_ = watched.has_value();
}

void Net::unwatch_tap() {
  watching_ = false;
  loop_.unwatch(tap_.fd());
}

/// On the loop's thread, while the tap has frames.
void Net::receive() {
  constexpr auto kReceive = static_cast<std::uint16_t>(Queue::receive);
  for (int left = kFramesPerTurn; left > 0; --left) {
    VirtQueue* queue = queues_->at(kReceive);
    if (queue == nullptr) return unwatch_tap();  // reset or broken meanwhile
    if (!next_buffer(*queue)) {
      // The frames wait in the tap, and the tap is not watched until the guest kicks with new buffers:
      // watching it would spin, and not looking at the queue again after asking for the kick would freeze
      // (CVE-2020-16843).
      unwatch_tap();
      break;
    }
    if (!receive_frame(*queue)) break;
  }
  queues_->notify(kReceive);
}

/// Makes `buffer_` the buffer for the next frame; false when the guest has none.
bool Net::next_buffer(VirtQueue& queue) {
  while (!buffer_) {
    auto chain = queue.take();
    if (!chain) {
      queues_->broken(static_cast<std::uint16_t>(Queue::receive), chain.error());
      return false;
    }
    if (!*chain) {
      if (queue.enable_kicks()) continue;
      ++counters_.starved;
      return false;
    }
    if ((*chain)->writable_size() < kHeaderSize + kOrdinaryFrame) {
      ++counters_.receive_malformed;
      queue.put(std::move(**chain), 0);
      continue;
    }
    buffer_.emplace(std::move(**chain));
  }
  return true;
}

/// Moves one frame from the tap into `buffer_`; false when there is none.
bool Net::receive_frame(VirtQueue& queue) {
  const std::uint64_t room = buffer_->writable_size() - kHeaderSize;
  to_iovecs(buffer_->writable(), kHeaderSize, room, iovecs_);
  // One byte more than there is room for tells a frame that fits from one that was cut off.
  std::byte overflow;
  iovecs_.push_back({.iov_base = &overflow, .iov_len = 1});
  const Tap::Transfer frame = tap_.read(iovecs_);
  switch (frame.outcome) {
    case Tap::Outcome::would_block:
      return false;
    case Tap::Outcome::failed:
    case Tap::Outcome::gone:
      link_down();
      return false;
    case Tap::Outcome::done:
      break;
  }
  if (frame.size > room) {
    ++counters_.received_too_large;
    return true;  // the buffer is for the next frame
  }
  buffer_->write(0, kReceiveHeader);
  ++counters_.received;
  queue.put(std::move(*buffer_), static_cast<std::uint32_t>(kHeaderSize + frame.size));
  buffer_.reset();
  return true;
}

/// The tap will not bring a frame any more: the guest should know, and the loop should not spin on its error.
void Net::link_down() {
  log::error("{}: the tap is gone; the guest's link is down", name_);
  unwatch_tap();
  space_.status = 0;
  host().interrupt_config();
}

void Net::send(const Chain& chain) {
  const std::uint64_t size = chain.readable_size();
  if (size < kHeaderSize + kSmallestFrame || size > kHeaderSize + kLargestFrame) {
    ++counters_.send_malformed;
    return;
  }
  // The guest's header asks for offloads, of which none was negotiated: it is left out.
  to_iovecs(chain.readable(), kHeaderSize, size - kHeaderSize, iovecs_);
  if (tap_.write(iovecs_).outcome == Tap::Outcome::done) {
    ++counters_.sent;
    return;
  }
  ++counters_.send_dropped;  // as on a wire: what matters is sent again
  if (const auto times = failures_.happened())
    log::warning("{}: the tap did not take {} frames", name_, *times);
}

NetCounters Net::counters() const {
  const std::lock_guard lock(mutex);
  return counters_;
}

}  // namespace balloon::vmm
