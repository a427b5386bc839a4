// SPDX-License-Identifier: Apache-2.0
// What a virtio device is to its transport: identity, features, queues, config space, and what to do on a
// kick.
//
// Threads. A device is driven from two sides: vCPU threads (config space, status) and one event-loop thread
// (queues, taps, timers). The transport holds `VirtioDevice::mutex` around every call below; a device's own
// event-loop callbacks take it themselves. So a device needs no lock of its own, and never sees two calls at
// once. No call may take long (turn_budget.h): whoever waits for the mutex waits for that call, and no other.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/mutex.h"
#include "vmm/virtio/fair_mutex.h"
#include "vmm/virtio/feature_dependency.h"

namespace balloon::vmm {

class StateReader;
class StateWriter;
class EventLoop;
class GuestMemory;
class VirtQueue;

/// Virtio device ids (virtio 1.2, 5).
enum class DeviceId : std::uint16_t { net = 1, block = 2, console = 3, entropy = 4, balloon = 5 };

/// Device-independent feature bits (virtio 1.2, 6).
inline constexpr std::uint64_t kFeatureAnyLayout = 1ULL << 27;  ///< legacy drivers only
inline constexpr std::uint64_t kFeatureIndirectDesc = 1ULL << 28;
inline constexpr std::uint64_t kFeatureEventIdx = 1ULL << 29;
inline constexpr std::uint64_t kFeatureVersion1 = 1ULL << 32;
inline constexpr std::uint64_t kFeatureRingPacked = 1ULL << 34;
inline constexpr std::uint64_t kFeatureRingReset = 1ULL << 40;

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

  // For a queue that somebody else serves (vhost). Both with the device's mutex held, while it is active.

  /// From now on the driver's kicks of `queue` signal `event` (an eventfd) and do not come to
  /// process_queue(), but for the few that were on their way; -1 ends that. Ended by a reset, too.
  virtual void divert_kicks(std::uint16_t /*queue*/, int /*event*/) {}
  /// An eventfd that raises the interrupt of `queue` whenever it is signalled; -1 when there is none just
  /// now: then interrupt_queue() is the way. Good until VirtioDevice::interrupts_changed() or reset().
  virtual int interrupt_event(std::uint16_t /*queue*/) { return -1; }
};

class VirtioDevice {
 public:
  virtual ~VirtioDevice() = default;

  virtual DeviceId id() const = 0;
  /// For logs: "balloon", "block vda".
  virtual std::string_view name() const = 0;
  /// Device-specific feature bits and kFeatureIndirectDesc/EventIdx as wanted; the transport adds what is
  /// its own: VERSION_1, RING_PACKED, RING_RESET, ANY_LAYOUT for legacy drivers.
  virtual std::uint64_t offered_features() const = 0;
  /// Which of the device-specific features need others. What is offered keeps to it; a driver that does not
  /// has its FEATURES_OK refused (2.2.2).
  virtual std::span<const FeatureDependency> feature_dependencies() const { return {}; }
  /// Whether RING_PACKED may be offered: the queues hide which ring it is, but vhost in the kernel knows
  /// split rings only.
  virtual bool takes_packed_rings() const { return true; }
  /// Maximum size of each queue (a power of two); the number of queues.
  virtual std::span<const std::uint16_t> queue_sizes() const = 0;
  /// Size of the device's config space in bytes.
  virtual std::uint32_t config_size() const = 0;
  /// The transport guarantees offset + size <= config_size().
  virtual void read_config(std::uint32_t offset, std::span<std::byte> into) REQUIRES(mutex()) = 0;
  /// Likewise. Writes to fields that the driver may not write are ignored.
  virtual void write_config(std::uint32_t offset, std::span<const std::byte> from) REQUIRES(mutex()) = 0;
  /// DRIVER_OK. `queues` has one entry a queue, in order; null where the driver did not enable it. The device
  /// keeps them until reset(). `features` lacks VERSION_1 when a legacy driver came: a network device then
  /// has its shorter header (virtio 1.2, 5.1.6.1).
  virtual void activate(std::uint64_t features, std::vector<std::unique_ptr<VirtQueue>> queues)
      REQUIRES(mutex()) = 0;
  /// The driver kicked queue `index`. Only between activate() and reset().
  virtual void process_queue(std::uint16_t index) REQUIRES(mutex()) = 0;
  /// Back to the state before activate(); drops the queues. No interrupt may follow from the old life.
  virtual void reset() REQUIRES(mutex()) = 0;

  // RING_RESET (2.6.1), between activate() and reset(); the other queues go on.

  /// The driver takes queue `index` back: what is under way there ends, and the queue is dropped. Afterwards
  /// neither its rings nor its buffers are touched.
  virtual void reset_queue(std::uint16_t index) REQUIRES(mutex()) = 0;
  /// The driver gives queue `index`, which is not in use, anew.
  virtual void start_queue(std::uint16_t index, std::unique_ptr<VirtQueue> queue) REQUIRES(mutex()) = 0;

  /// Waits until nothing that the driver asked for is under way: no byte of the guest's memory changes then,
  /// until the next call. For a pause or snapshot.
  virtual void settle() REQUIRES(mutex()) {}
  /// What the device knows beyond its features and queues. load() comes right after activate(), or on a
  /// device that is not active. By default: what the driver wrote to the config space.
  virtual void save(StateWriter& writer) const REQUIRES(mutex());
  virtual Result<void> load(StateReader& reader) REQUIRES(mutex());
  /// The driver moved or switched interrupts: ask DeviceHost::interrupt_event() again.
  virtual void interrupts_changed() REQUIRES(mutex()) {}

  /// Set by the transport before anything else is called.
  void attach(DeviceHost& host) { host_ = &host; }

  /// Held around every call that needs it, by whoever makes the call.
  FairMutex& mutex() const RETURN_CAPABILITY(mutex_) { return mutex_; }

 protected:
  DeviceHost& host() const { return *host_; }

 private:
  mutable FairMutex mutex_;
  DeviceHost* host_ = nullptr;
};

}  // namespace balloon::vmm
