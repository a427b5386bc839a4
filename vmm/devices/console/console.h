// SPDX-License-Identifier: Apache-2.0
// virtio-console (virtio 1.2, 5.3) with one port, the guest's hvc0: much less work a byte than a UART, which
// exits to us for each.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "vmm/devices/console/console_device.h"
#include "vmm/devices/serial/backend.h"
#include "vmm/virtio/device.h"
#include "vmm/virtio/device_queues.h"

namespace balloon::vmm {

class Console final : public VirtioDevice, public SerialSink {
 public:
  enum class Queue : std::uint16_t { receive, transmit };
  /// A character can be written before queues are set up (5.3.4): the kernel's last words.
  static constexpr std::uint64_t kFeatureEmergencyWrite = 1ULL << 2;
  static constexpr std::uint16_t kQueueSize = 64;
  /// Input that waits for the guest: a pasted screenful; more waits at its source.
  static constexpr std::size_t kInputRoom = 4096;
  /// Output handed to the backend at once: as much as a pipe of Linux takes.
  static constexpr std::size_t kPiece = (64 * kKiB).count();

  /// `backend` must outlive it.
  static Result<std::unique_ptr<Console>> create(SerialBackend& backend, EventLoop& loop);
  ~Console() override;

  DeviceId id() const override { return DeviceId::console; }
  std::string_view name() const override { return "console"; }
  std::uint64_t offered_features() const override {
    return kFeatureIndirectDesc | kFeatureEventIdx | kFeatureEmergencyWrite;
  }
  std::span<const std::uint16_t> queue_sizes() const override { return kQueueSizes; }
  std::uint32_t config_size() const override { return sizeof(ConfigSpace); }
  void read_config(std::uint32_t offset, std::span<std::byte> into) override REQUIRES(mutex());
  void write_config(std::uint32_t offset, std::span<const std::byte> from) override REQUIRES(mutex());
  void activate(std::uint64_t features, std::vector<std::unique_ptr<VirtQueue>> queues) override
      REQUIRES(mutex());
  void process_queue(std::uint16_t index) override REQUIRES(mutex());
  void reset() override REQUIRES(mutex());
  void reset_queue(std::uint16_t index) override REQUIRES(mutex()) { queues_->remove(index); }
  void start_queue(std::uint16_t index, std::unique_ptr<VirtQueue> queue) override REQUIRES(mutex()) {
    queues_->add(index, std::move(queue));
  }

  std::size_t receive_room() const override;
  void receive(std::span<const std::byte> bytes) override;
  void transmit_ready() override;

 private:
  /// 5.3.4, little-endian. Of it only emerg_wr means anything: sizes and ports need features not offered.
  struct ConfigSpace {
    std::uint16_t columns = 0;
    std::uint16_t rows = 0;
    std::uint32_t max_ports = 1;
    std::uint32_t emergency_write = 0;
  };
  static constexpr std::array<std::uint16_t, 2> kQueueSizes = {kQueueSize, kQueueSize};

  explicit Console(SerialBackend& backend) : backend_(backend) {}
  /// Hands waiting input to the guest's buffers.
  void deliver() REQUIRES(mutex());
  Progress transmit(VirtQueue& queue, Work& work, TurnBudget& budget) REQUIRES(mutex());

  SerialBackend& backend_;
  std::deque<std::byte> input_ GUARDED_BY(mutex());
  bool source_waits_ GUARDED_BY(mutex()) = false;
  std::vector<iovec> piece_ GUARDED_BY(mutex());  ///< of transmit()
  std::unique_ptr<DeviceQueues> queues_ PT_GUARDED_BY(mutex());
};

}  // namespace balloon::vmm
