// SPDX-License-Identifier: Apache-2.0
// What all virtio transports have in common (virtio 1.2, 2.1, 2.2, 2.6.1, 3.1): the status, the negotiation
// of features, the queues' life, kicks, and the interrupt status with its pin. A transport adds the
// registers.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "vmm/event_loop.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/virtio/device.h"
#include "vmm/virtio/queue.h"
#include "vmm/virtio/transport_config.h"
#include "vmm/virtio/wiring.h"

namespace balloon::vmm {

namespace virtio_transport {
// Device status bits (2.1).
inline constexpr std::uint8_t kAcknowledge = 1;
inline constexpr std::uint8_t kDriver = 2;
inline constexpr std::uint8_t kDriverOk = 4;
inline constexpr std::uint8_t kFeaturesOk = 8;
inline constexpr std::uint8_t kNeedsReset = 64;
inline constexpr std::uint8_t kFailed = 128;

// Bits of the interrupt status (4.1.4.5, 4.2.2).
inline constexpr std::uint8_t kIsrQueue = 1;
inline constexpr std::uint8_t kIsrConfig = 2;
}  // namespace virtio_transport

/// Lock order: the device's mutex, then the pin's. The device's guards the transport's own state, too, apart
/// from the atomics, which the device's interrupts read with or without it.
class VirtioTransport : protected DeviceHost {
 public:
  ~VirtioTransport() override;
  VirtioTransport(const VirtioTransport&) = delete;
  VirtioTransport& operator=(const VirtioTransport&) = delete;

  /// Waits until nothing that the driver asked for is under way.
  void settle() EXCLUDES(device_->mutex());

 protected:
  struct Queue {
    std::uint16_t max_size = 0;
    std::uint16_t size = 0;
    bool enabled = false;
    GuestAddress descriptors = 0;
    GuestAddress available = 0;
    GuestAddress used = 0;
    UniqueFd doorbell;
    VirtQueue* ring = nullptr;       ///< the device's, while it is active
    std::atomic<int> diverted = -1;  ///< where kicks go instead of the doorbell
    /// As after a reset of the device; its doorbell's kicks are forgotten.
    void clear();
    int kick_event() const {
      const int other = diverted;
      return other >= 0 ? other : doorbell.get();
    }
  };

  VirtioTransport(std::unique_ptr<VirtioDevice> device, const GuestMemory& memory, EventLoop& loop,
                  Wiring& wiring, TransportConfig config);
  /// Second part of the construction.
  Result<void> watch_doorbells();
  /// First part of the destruction, while the transport is whole: stops and destroys the device.
  void end();

  // What a transport adds.

  /// Where the driver's kicks of a queue go just now.
  virtual std::vector<Doorbell> doorbells(std::size_t queue) const REQUIRES(device_->mutex()) = 0;
  /// Whether the pin is how this transport interrupts just now.
  virtual bool pin_in_use() const { return true; }
  /// Sends the message of a queue, or that of the configuration, if that is how it interrupts.
  virtual void send_message(std::optional<std::uint16_t> /*queue*/) {}
  /// Of a reset: messages are as before the driver came; of the device or of one queue.
  virtual void forget_messages() REQUIRES(device_->mutex()) {}
  virtual void forget_message(std::uint16_t /*queue*/) REQUIRES(device_->mutex()) {}
  /// A kick of a queue that is enabled, before DRIVER_OK.
  virtual void kicked_early() REQUIRES(device_->mutex()) {}
  /// All features that a driver may have taken, by whatever interface.
  virtual std::uint64_t acceptable() const { return offered(); }

  // Registers.

  std::uint64_t offered() const;
  /// The 32 feature bits that the driver's selector points to. Words past the second are reserved and read as
  /// 0.
  std::uint32_t offered_word() const REQUIRES(device_->mutex());
  std::uint32_t driver_word() const REQUIRES(device_->mutex());
  void write_driver_word(std::uint32_t value) REQUIRES(device_->mutex());
  void write_status(std::uint8_t value) REQUIRES(device_->mutex());
  Queue* selected_queue() REQUIRES(device_->mutex());
  std::uint16_t index_of(const Queue& queue) const {
    return static_cast<std::uint16_t>(&queue - queues_.data());
  }
  /// Whether the driver may not change the queue's shape: it is enabled, or the device runs (the class of
  /// CVE-2026-5747). Of a running device, only a queue that was reset can be set up.
  bool frozen(const Queue& queue) const REQUIRES(device_->mutex());
  // These three keep to frozen().
  void set_queue_size(Queue& queue, std::uint64_t value) const REQUIRES(device_->mutex());
  /// The low or high half of one of the queue's addresses.
  void set_queue_address(Queue& queue, GuestAddress Queue::* part, bool high, std::uint32_t value) const
      REQUIRES(device_->mutex());
  void enable_queue(Queue& queue) REQUIRES(device_->mutex());
  /// 2.6.1: when this returns, the driver may do with the rings and buffers what it likes.
  void reset_queue(Queue& queue) REQUIRES(device_->mutex());
  // The device's configuration.
  void read_device_config(std::uint64_t offset, std::span<std::byte> into) EXCLUDES(device_->mutex());
  void write_device_config(std::uint64_t offset, std::span<const std::byte> from) EXCLUDES(device_->mutex());

  // Life.

  bool negotiated(std::uint64_t feature) const REQUIRES(device_->mutex()) {
    return (driver_features_ & feature) != 0;
  }
  /// `positions`: where each queue stands already; empty: all are new.
  void activate(std::span<const QueuePosition> positions = {}) REQUIRES(device_->mutex());
  void ring(std::uint16_t queue);
  void connect_kicks(std::size_t queue) REQUIRES(device_->mutex());
  void disconnect_kicks(std::size_t queue) REQUIRES(device_->mutex());

  // Interrupts.

  /// Takes these bits of the interrupt status back, and so may let go of the pin.
  std::uint8_t take_isr(std::uint8_t bits = 0xff);
  void set_pin_line(std::unique_ptr<PinLine> pin);
  void update_pin();

  // DeviceHost
  void interrupt_queue(std::uint16_t queue) override;
  void interrupt_config() override;
  void needs_reset(std::string_view why) override;
  void divert_kicks(std::uint16_t queue, int event) override REQUIRES(device_->mutex());

  // In transport_state.cc.
  /// Of a device that is settled; what serves queues in its place (vhost) is paused.
  void save_driver(StateWriter& writer) const EXCLUDES(device_->mutex());
  /// Messages are in place already.
  Result<void> load_driver(StateReader& reader) EXCLUDES(device_->mutex());

  std::unique_ptr<VirtioDevice> device_;
  std::vector<Queue> queues_;
  const TransportConfig transport_;
  Wiring& wiring_;
  std::uint32_t device_feature_select_ GUARDED_BY(device_->mutex()) = 0;
  std::uint32_t driver_feature_select_ GUARDED_BY(device_->mutex()) = 0;
  std::uint64_t driver_features_ GUARDED_BY(device_->mutex()) = 0;
  std::uint16_t queue_select_ GUARDED_BY(device_->mutex()) = 0;
  std::atomic<std::uint8_t> status_ = 0;
  std::atomic<std::uint8_t> config_generation_ = 0;
  std::atomic<std::uint8_t> isr_ = 0;

 private:
  bool features_acceptable() const REQUIRES(device_->mutex());
  Result<std::unique_ptr<VirtQueue>> make_queue(const Queue& queue) const REQUIRES(device_->mutex());
  void reset() REQUIRES(device_->mutex());
  void on_doorbell(std::uint16_t queue);
  void interrupt(std::uint8_t isr, std::optional<std::uint16_t> queue);

  const GuestMemory& memory_;
  EventLoop& loop_;
  std::atomic<unsigned> complaints_ = 0;
  Mutex pin_mutex_;  ///< nothing else is taken under it but Vm's
  std::unique_ptr<PinLine> pin_ GUARDED_BY(pin_mutex_);
  std::atomic<bool> pin_asserted_ = false;
};

}  // namespace balloon::vmm
