// SPDX-License-Identifier: Apache-2.0
// virtio-net (virtio 1.2, 5.1) over a tap. Queue pairs are served here, or by vhost-net; the control queue
// always here.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "vmm/devices/net/control_queue.h"
#include "vmm/devices/net/frame_limit.h"
#include "vmm/devices/net/header.h"
#include "vmm/devices/net/net_config.h"
#include "vmm/devices/net/net_control.h"
#include "vmm/devices/net/receiver.h"
#include "vmm/devices/net/sender.h"
#include "vmm/devices/net/tap.h"
#include "vmm/devices/net/vhost.h"
#include "vmm/virtio/device.h"
#include "vmm/virtio/device_queues.h"
#include "vmm/virtio/rate_limit.h"
#include "vmm/virtio/wishes.h"

namespace balloon::vmm {

class Net final : public VirtioDevice, public NetControl, private NetCommands {
 public:
  static constexpr std::uint16_t kControlQueueSize = 64;  ///< Linux has one command out at a time
  /// Frames received before others on the loop get their turn; as many chains as DeviceQueues serves in one.
  static constexpr int kFramesPerTurn = TurnBudget::kChains;
  /// As many of the largest.
  static constexpr Bytes kBytesPerTurn = 2 * kMiB;

  /// `kernel`: who answers for /dev/vhost-net; must outlive the device.
  static Result<std::unique_ptr<Net>> create(const NetConfig& config, const NetPort& port,
                                             const GuestMemory& memory, EventLoop& loop, VhostKernel& kernel);
  ~Net() override;

  DeviceId id() const override { return DeviceId::net; }
  std::string_view name() const override { return name_; }
  std::uint64_t offered_features() const override { return offered_; }
  std::span<const FeatureDependency> feature_dependencies() const override { return net_dependencies(); }
  bool takes_packed_rings() const override { return pairs_[0].vhost == nullptr; }
  std::span<const std::uint16_t> queue_sizes() const override { return queue_sizes_; }
  std::uint32_t config_size() const override;
  void read_config(std::uint32_t offset, std::span<std::byte> into) override;
  void write_config(std::uint32_t offset, std::span<const std::byte> from) override;
  void activate(std::uint64_t features, std::vector<std::unique_ptr<VirtQueue>> queues) override;
  void process_queue(std::uint16_t index) override;
  void reset() override;
  void reset_queue(std::uint16_t index) override;
  void start_queue(std::uint16_t index, std::unique_ptr<VirtQueue> queue) override;
  void save(StateWriter& writer) const override;
  Result<void> load(StateReader& reader) override;
  void interrupts_changed() override;

  void set_link(bool up) override;
  bool announce() override;
  void pause() override;
  void resume() override;
  NetState state() const override;
  NetCounters counters() const override;
  /// The guest's memory is mapped elsewhere now; vhost has to know. With the mutex held.
  Result<void> memory_changed();

 private:
  /// The start of virtio_net_config (5.1.4), up to the last field whose feature can be offered.
  struct ConfigSpace {
    MacAddress mac;
    std::uint16_t status;
    std::uint16_t max_pairs;
    std::uint16_t mtu;
  };
  /// Receive and send queue, and the tap's queue behind them.
  struct Pair {
    Tap tap;
    std::uint16_t receive_queue;
    Receiver receiver{};
    Sender sender{};
    std::unique_ptr<Vhost> vhost{};
    std::array<UniqueFd, Vhost::kRings> calls{};  ///< for vhost, where the transport has no event to lend
    bool used = false;                            ///< the guest has it in use
    /// Whether the loop watches the tap; it is taken off only in the watch's own callback.
    bool watching = false;
    bool stalled = false;  ///< frames have to wait for the guest, or for tokens
    std::uint16_t send_queue() const { return static_cast<std::uint16_t>(receive_queue + 1); }
    bool by_vhost() const { return vhost && vhost->started(); }
  };

  Net(const NetConfig& config, MacAddress mac, std::vector<Tap> taps, const GuestMemory& memory,
      EventLoop& loop);
  Result<void> set_up();
  Result<void> set_up_vhost(VhostKernel& kernel);
  Result<void> watch_vhost(Pair& pair);
  void offer(unsigned tap_offloads);
  bool link_up() const;
  bool tell_tap();

  // All with the mutex held.
  void on_tap(Pair& pair);
  void go_on_receiving(Pair& pair);
  void receive(Pair& pair);
  void send(Pair& pair);
  void count_sent(Sender::Outcome outcome, std::uint64_t size);
  void serve_control(std::uint16_t index);
  void use_pair(Pair& pair, bool use);
  void start_vhost(Pair& pair);
  void stop_vhost(Pair& pair);
  void take_positions(Pair& pair);
  void serve_pair(Pair& pair);
  Pair* pair_of(std::uint16_t index);
  void go_on(Pair& pair);
  void on_vhost_error(Pair& pair);
  int call_event(Pair& pair, std::size_t ring);
  void watch_tap(Pair& pair);
  void unwatch_tap(Pair& pair);
  void tap_gone(Pair& pair);
  void plug(bool up);
  void set_status(std::uint16_t status);
  bool wait_for_tokens(FrameLimit& limit);
  void on_tokens();

  // Commands of the guest.
  ReceiveFilter& filter() override { return filter_; }
  bool filter_changed() override;
  bool set_mac(const MacAddress& mac) override;
  bool announced() override;
  bool set_queue_pairs(unsigned pairs) override;
  bool set_guest_offloads(std::uint64_t features) override;

  const NetConfig config_;
  const std::string name_;
  MacAddress first_mac_;
  const GuestMemory& memory_;
  EventLoop& loop_;
  std::vector<Pair> pairs_;
  std::vector<std::uint16_t> queue_sizes_;
  std::uint64_t offered_ = 0;
  ConfigSpace space_;
  bool cable_ = true;  ///< as set_link() left it; survives the guest's resets, and snapshots

  std::uint64_t features_ = 0;
  std::uint64_t guest_offloads_ = 0;  ///< of the features, those that are on
  std::uint16_t control_queue_ = 0;
  bool active_ = false;
  ReceiveFilter filter_;

  NetCounters counters_;
  RateLimit failures_;
  FrameLimit receive_limit_;
  FrameLimit send_limit_;
  std::unique_ptr<EventLoop::Timer> tokens_;
  std::unique_ptr<Wishes> wishes_;
  std::unique_ptr<DeviceQueues> queues_;
};

}  // namespace balloon::vmm
