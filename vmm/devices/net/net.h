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
  /// Whether vhost is there does not change once the device is made: that needs no lock.
  bool takes_packed_rings() const override NO_THREAD_SAFETY_ANALYSIS { return pairs_[0].vhost == nullptr; }
  std::span<const std::uint16_t> queue_sizes() const override { return queue_sizes_; }
  std::uint32_t config_size() const override;
  void read_config(std::uint32_t offset, std::span<std::byte> into) override REQUIRES(mutex());
  void write_config(std::uint32_t offset, std::span<const std::byte> from) override REQUIRES(mutex());
  void activate(std::uint64_t features, std::vector<std::unique_ptr<VirtQueue>> queues) override
      REQUIRES(mutex());
  void process_queue(std::uint16_t index) override REQUIRES(mutex());
  void reset() override REQUIRES(mutex());
  void reset_queue(std::uint16_t index) override REQUIRES(mutex());
  void start_queue(std::uint16_t index, std::unique_ptr<VirtQueue> queue) override REQUIRES(mutex());
  void save(StateWriter& writer) const override REQUIRES(mutex());
  Result<void> load(StateReader& reader) override REQUIRES(mutex());
  void interrupts_changed() override REQUIRES(mutex());

  void set_link(bool up) override;
  bool announce() override;
  void pause() override;
  void resume() override;
  NetState state() const override;
  NetCounters counters() const override;
  /// The guest's memory is mapped elsewhere now; vhost has to know.
  Result<void> memory_changed() REQUIRES(mutex());

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
  // Before anybody else has the device: without the mutex.
  Result<void> set_up() NO_THREAD_SAFETY_ANALYSIS;
  Result<void> set_up_vhost(VhostKernel& kernel) NO_THREAD_SAFETY_ANALYSIS;
  Result<void> watch_vhost(Pair& pair);
  void offer(unsigned tap_offloads) NO_THREAD_SAFETY_ANALYSIS;

  bool link_up() const REQUIRES(mutex());
  bool tell_tap() REQUIRES(mutex());

  void on_tap(Pair& pair) REQUIRES(mutex());
  void go_on_receiving(Pair& pair) REQUIRES(mutex());
  void receive(Pair& pair) REQUIRES(mutex());
  void send(Pair& pair) REQUIRES(mutex());
  void count_sent(Sender::Outcome outcome, std::uint64_t size) REQUIRES(mutex());
  void serve_control(std::uint16_t index) REQUIRES(mutex());
  void use_pair(Pair& pair, bool use) REQUIRES(mutex());
  void start_vhost(Pair& pair) REQUIRES(mutex());
  void stop_vhost(Pair& pair) REQUIRES(mutex());
  void take_positions(Pair& pair) REQUIRES(mutex());
  void serve_pair(Pair& pair) REQUIRES(mutex());
  Pair* pair_of(std::uint16_t index) REQUIRES(mutex());
  void go_on(Pair& pair) REQUIRES(mutex());
  void on_vhost_error(Pair& pair);
  int call_event(Pair& pair, std::size_t ring) REQUIRES(mutex());
  void watch_tap(Pair& pair) REQUIRES(mutex());
  void unwatch_tap(Pair& pair) REQUIRES(mutex());
  void tap_gone(Pair& pair) REQUIRES(mutex());
  void plug(bool up) REQUIRES(mutex());
  void set_status(std::uint16_t status) REQUIRES(mutex());
  bool wait_for_tokens(FrameLimit& limit) REQUIRES(mutex());
  void on_tokens();

  // Commands of the guest.
  ReceiveFilter& filter() override REQUIRES(mutex()) { return filter_; }
  bool filter_changed() override REQUIRES(mutex());
  bool set_mac(const MacAddress& mac) override REQUIRES(mutex());
  bool announced() override REQUIRES(mutex());
  bool set_queue_pairs(unsigned pairs) override REQUIRES(mutex());
  bool set_guest_offloads(std::uint64_t features) override REQUIRES(mutex());

  const NetConfig config_;
  const std::string name_;
  MacAddress first_mac_ GUARDED_BY(mutex());
  const GuestMemory& memory_;
  EventLoop& loop_;
  std::vector<Pair> pairs_ GUARDED_BY(mutex());
  std::vector<std::uint16_t> queue_sizes_;
  std::uint64_t offered_ = 0;
  ConfigSpace space_ GUARDED_BY(mutex());
  /// As set_link() left it; survives the guest's resets, and snapshots.
  bool cable_ GUARDED_BY(mutex()) = true;

  std::uint64_t features_ GUARDED_BY(mutex()) = 0;
  std::uint64_t guest_offloads_ GUARDED_BY(mutex()) = 0;  ///< of the features, those that are on
  std::uint16_t control_queue_ GUARDED_BY(mutex()) = 0;
  bool active_ GUARDED_BY(mutex()) = false;
  ReceiveFilter filter_ GUARDED_BY(mutex());

  NetCounters counters_ GUARDED_BY(mutex());
  RateLimit failures_ GUARDED_BY(mutex());
  FrameLimit receive_limit_ GUARDED_BY(mutex());
  FrameLimit send_limit_ GUARDED_BY(mutex());
  std::unique_ptr<EventLoop::Timer> tokens_;
  std::unique_ptr<Wishes> wishes_;
  std::unique_ptr<DeviceQueues> queues_ PT_GUARDED_BY(mutex());
};

}  // namespace balloon::vmm
