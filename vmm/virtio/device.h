// What a virtio device is to its transport: identity, features, queues, config space, and what to do on a
// kick.
//
// Threads. A device is driven from two sides: vCPU threads (config space, status) and one event-loop thread
// (queues, taps, timers). The transport holds `VirtioDevice::mutex` around every call below; a device's own
// event-loop callbacks take it themselves. So a device needs no lock of its own, and never sees two calls at
// once.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string_view>
#include <vector>

namespace balloon::vmm {

class EventLoop;
class GuestMemory;
class VirtQueue;

/// Virtio device ids (virtio 1.2, 5).
enum class DeviceId : std::uint16_t { net = 1, block = 2, console = 3, entropy = 4, balloon = 5 };

/// Device-independent feature bits (virtio 1.2, 6).
inline constexpr std::uint64_t kFeatureIndirectDesc = 1ULL << 28;
inline constexpr std::uint64_t kFeatureEventIdx = 1ULL << 29;
inline constexpr std::uint64_t kFeatureVersion1 = 1ULL << 32;

/// How a device reaches the guest; implemented by the transport. All may be called from any thread.
class DeviceHost {
 public:
  virtual ~DeviceHost() = default;
  /// Raises the interrupt of one queue.
  virtual void interrupt_queue(std::uint16_t queue) = 0;
  /// Raises the configuration-change interrupt.
  virtual void interrupt_config() = 0;
  /// The guest broke the rules: sets DEVICE_NEEDS_RESET, tells the guest, stops all queues until it resets
  /// the device.
  virtual void needs_reset(std::string_view why) = 0;
};

class VirtioDevice {
 public:
  virtual ~VirtioDevice() = default;

  virtual DeviceId id() const = 0;
  /// For logs: "balloon", "block vda".
  virtual std::string_view name() const = 0;
  /// Device-specific feature bits and kFeatureIndirectDesc/EventIdx as wanted; the transport adds VERSION_1.
  virtual std::uint64_t offered_features() const = 0;
  /// Maximum size of each queue (a power of two); the number of queues.
  virtual std::span<const std::uint16_t> queue_sizes() const = 0;
  /// Size of the device's config space in bytes.
  virtual std::uint32_t config_size() const = 0;
  /// The transport guarantees offset + size <= config_size().
  virtual void read_config(std::uint32_t offset, std::span<std::byte> into) = 0;
  /// Likewise. Writes to fields that the driver may not write are ignored.
  virtual void write_config(std::uint32_t offset, std::span<const std::byte> from) = 0;
  /// DRIVER_OK. `queues` has one entry a queue, in order; null where the driver did not enable it. The device
  /// keeps them until reset().
  virtual void activate(std::uint64_t features, std::vector<std::unique_ptr<VirtQueue>> queues) = 0;
  /// The driver kicked queue `index`. Only between activate() and reset().
  virtual void process_queue(std::uint16_t index) = 0;
  /// Back to the state before activate(); drops the queues. No interrupt may follow from the old life.
  virtual void reset() = 0;

  /// Set by the transport before anything else is called.
  void attach(DeviceHost& host) { host_ = &host; }

  mutable std::mutex mutex;

 protected:
  DeviceHost& host() const { return *host_; }

 private:
  DeviceHost* host_ = nullptr;
};

}  // namespace balloon::vmm
