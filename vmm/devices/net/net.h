// virtio-net (virtio 1.2, 5.1) over a tap: plain frames, one queue pair, no offloads.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "vmm/devices/devices.h"
#include "vmm/devices/net/tap.h"
#include "vmm/virtio/device.h"
#include "vmm/virtio/device_queues.h"
#include "vmm/virtio/rate_limit.h"

namespace balloon::vmm {

/// What the device did since it was made.
struct NetCounters {
  std::uint64_t received = 0;            ///< frames given to the guest
  std::uint64_t received_too_large = 0;  ///< dropped: larger than the guest's buffer
  std::uint64_t receive_malformed = 0;   ///< buffers returned at once: no room for an ordinary frame
  std::uint64_t starved = 0;             ///< times that frames had to wait in the tap for a buffer
  std::uint64_t sent = 0;                ///< frames given to the tap
  std::uint64_t send_malformed = 0;      ///< dropped: no header, or no plausible size
  std::uint64_t send_dropped = 0;        ///< dropped: the tap did not take it
};

class Net final : public VirtioDevice {
 public:
  enum class Queue : std::uint16_t { receive, send };

  // Feature bits (5.1.3).
  static constexpr std::uint64_t kFeatureMac = 1ULL << 5;
  static constexpr std::uint64_t kFeatureStatus = 1ULL << 16;

  static constexpr std::uint16_t kQueueSize = 256;
  /// virtio_net_hdr with num_buffers, which VERSION_1 always has (5.1.6.1).
  static constexpr std::size_t kHeaderSize = 12;
  /// What a driver without offloads must offer room for (5.1.6.3.1): 1500 bytes and the Ethernet header.
  static constexpr std::size_t kOrdinaryFrame = 1514;
  static constexpr std::size_t kSmallestFrame = 14;    ///< the Ethernet header alone (ETH_HLEN)
  static constexpr std::size_t kLargestFrame = 65553;  ///< ETH_MAX_MTU, Ethernet header, VLAN tag
  /// Frames received before others on the loop get their turn; as many chains as DeviceQueues serves in one.
  static constexpr int kFramesPerTurn = DeviceQueues::kChainsPerTurn;

  static Result<std::unique_ptr<Net>> create(const NetConfig& config, EventLoop& loop);
  ~Net() override;

  DeviceId id() const override { return DeviceId::net; }
  std::string_view name() const override { return name_; }
  std::uint64_t offered_features() const override;
  std::span<const std::uint16_t> queue_sizes() const override;
  std::uint32_t config_size() const override;
  void read_config(std::uint32_t offset, std::span<std::byte> into) override;
  void write_config(std::uint32_t offset, std::span<const std::byte> from) override;
  void activate(std::uint64_t features, std::vector<std::unique_ptr<VirtQueue>> queues) override;
  void process_queue(std::uint16_t index) override;
  void reset() override;

  NetCounters counters() const;

 private:
  /// The start of virtio_net_config (5.1.4), up to the last field whose feature is offered.
  struct ConfigSpace {
    MacAddress mac;
    std::uint16_t status;
  };

  Net(std::string name, MacAddress mac, Tap tap, EventLoop& loop);
  // All with the mutex held.
  void receive();
  bool next_buffer(VirtQueue& queue);
  bool receive_frame(VirtQueue& queue);
  void send(const Chain& chain);
  void watch_tap();
  void unwatch_tap();
  void link_down();
  void drop_queues();

  const std::string name_;
  ConfigSpace space_;
  const Tap tap_;
  EventLoop& loop_;
  NetCounters counters_;
  std::vector<iovec> iovecs_;
  RateLimit failures_;
  bool watching_ =
      false;  ///< whether the loop watches the tap; it is taken off only on the loop's own thread
  std::unique_ptr<DeviceQueues> queues_;
  /// The guest's buffer for the next frame.
  std::optional<Chain> buffer_;
};

}  // namespace balloon::vmm
