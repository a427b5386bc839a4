// SPDX-License-Identifier: Apache-2.0
// The guest's side of the PCI bus, for tests: finds devices through configuration mechanism 1 and drives
// virtio-pci as a driver does. And the hypervisor's side: interrupts and doorbells that remember what
// happened.
#pragma once

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <stdexcept>
#include <string_view>
#include <utility>
#include <vector>

#include "vmm/bus.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/pci/pci_host.h"
#include "vmm/virtio/device.h"
#include "vmm/virtio/queue.h"

namespace balloon::vmm::test {

/// Remembers routes, interrupts and doorbells.
class FakePciHost : public PciHost {
 public:
  struct Line {
    std::optional<MsiMessage> message;
    int routes = 0;
    int triggers = 0;
    int event = -1;  ///< what others signal instead of trigger()
    bool held = false;
  };

  Result<std::unique_ptr<MsiLine>> new_msi_line() override {
    lines.emplace_back();
    return std::make_unique<FakeLine>(*this, lines.size() - 1);
  }
  Result<std::unique_ptr<PinLine>> new_pin_line(std::uint32_t gsi) override {
    pin_gsi = gsi;
    return std::make_unique<FakePin>(*this);
  }
  Result<void> connect_doorbell(const Doorbell& doorbell, int event) override {
    doorbells[doorbell] = event;
    return {};
  }
  void disconnect_doorbell(const Doorbell& doorbell, int /*event*/) override { doorbells.erase(doorbell); }

  /// The guest's kick, as KVM turns it into an event.
  bool kick(const Doorbell& bell) {
    const auto doorbell = doorbells.find(bell);
    if (doorbell == doorbells.end()) return false;
    const std::uint64_t one = 1;
    return ::write(doorbell->second, &one, sizeof one) == sizeof one;
  }
  Line line(std::size_t index) {
    const std::lock_guard lock(mutex);
    return lines.at(index);
  }

  /// Whether the device's INTx pin is asserted.
  bool pin() {
    const std::lock_guard lock(mutex);
    return pin_asserted;
  }

  std::deque<Line> lines;
  std::map<Doorbell, int> doorbells;
  std::uint32_t pin_gsi = 0;
  bool pin_asserted = false;
  bool refuse_routes = false;
  std::mutex mutex;

 private:
  class FakeLine : public MsiLine {
   public:
    FakeLine(FakePciHost& host, std::size_t index)
        : host_(host), index_(index), event_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
      host_.lines[index_].event = event_.get();
    }
    Result<void> route(const MsiMessage& message) override {
      const std::lock_guard lock(host_.mutex);
      if (host_.refuse_routes) return fail("refused by the test");
      host_.lines[index_].message = message;
      ++host_.lines[index_].routes;
      return {};
    }
    void trigger() override {
      const std::lock_guard lock(host_.mutex);
      ++host_.lines[index_].triggers;
    }
    int event() const override { return event_.get(); }
    void hold() override { host_.lines[index_].held = true; }
    bool release() override {
      std::uint64_t count = 0;
      host_.lines[index_].held = false;
      return ::read(event_.get(), &count, sizeof count) == sizeof count;
    }
    bool held_signal() const override {
      pollfd events{.fd = event_.get(), .events = POLLIN, .revents = 0};
      return ::poll(&events, 1, 0) == 1;
    }

   private:
    FakePciHost& host_;
    std::size_t index_;
    UniqueFd event_;
  };
  class FakePin : public PinLine {
   public:
    explicit FakePin(FakePciHost& host) : host_(host) {}
    void set(bool asserted) override {
      const std::lock_guard lock(host_.mutex);
      host_.pin_asserted = asserted;
    }

   private:
    FakePciHost& host_;
  };
};

/// Accesses to a bus, as values.
template <typename T>
T bus_read(const Bus& bus, std::uint64_t address) {
  T value{};
  bus.read(address, std::as_writable_bytes(std::span(&value, 1)));
  return value;
}
template <typename T>
void bus_write(const Bus& bus, std::uint64_t address, T value) {
  bus.write(address, std::as_bytes(std::span(&value, 1)));
}

/// Configuration accesses through ports 0xcf8 to 0xcff.
class ConfigPorts {
 public:
  ConfigPorts(Bus& ports, unsigned slot) : ports_(ports), slot_(slot) {}
  template <typename T>
  T read(unsigned offset) const {
    select(offset);
    return bus_read<T>(ports_, 0xcfc + offset % 4);
  }
  template <typename T>
  void write(unsigned offset, T value) const {
    select(offset);
    bus_write<T>(ports_, 0xcfc + offset % 4, value);
  }
  /// The first capability for which `matches` holds, given its offset.
  template <typename Matches>
  std::optional<unsigned> capability(Matches matches) const {
    for (unsigned at = read<std::uint8_t>(0x34); at != 0; at = read<std::uint8_t>(at + 1)) {
      if (matches(at)) return at;
    }
    return std::nullopt;
  }
  void enable_memory() const { write<std::uint16_t>(0x04, 0x0006); }
  void enable_io_and_memory() const { write<std::uint16_t>(0x04, 0x0007); }

 private:
  void select(unsigned offset) const {
    bus_write<std::uint32_t>(ports_, 0xcf8, 0x80000000U | slot_ << 11 | (offset & 0xfc));
  }
  Bus& ports_;
  unsigned slot_;
};

/// A device with two queues and eight bytes of config space, the first four writable.
class FakeDevice : public VirtioDevice {
 public:
  static constexpr std::uint64_t kFeatures = 0x5 | kFeatureEventIdx | kFeatureIndirectDesc;

  DeviceId id() const override { return DeviceId::balloon; }
  std::string_view name() const override { return "fake"; }
  std::uint64_t offered_features() const override { return kFeatures; }
  std::span<const std::uint16_t> queue_sizes() const override { return sizes_; }
  std::uint32_t config_size() const override { return static_cast<std::uint32_t>(config.size()); }
  void read_config(std::uint32_t offset, std::span<std::byte> into) override {
    std::memcpy(into.data(), config.data() + offset, into.size());
  }
  void write_config(std::uint32_t offset, std::span<const std::byte> from) override {
    if (offset + from.size() > config.size())
      throw std::out_of_range("its transport let a driver write past the device's configuration");
    for (std::size_t i = 0; i < from.size() && offset + i < 4; ++i) config[offset + i] = from[i];
  }
  void activate(std::uint64_t negotiated, std::vector<std::unique_ptr<VirtQueue>> given) override {
    ++activations;
    features = negotiated;
    queues = std::move(given);
  }
  void process_queue(std::uint16_t index) override {
    if (queues.empty()) ++calls_while_reset;
    ++kicks[index];
    if (complain) return host().needs_reset("the test says so");
    host().interrupt_queue(index);
  }
  void reset() override {
    ++resets;
    queues.clear();
  }
  void reset_queue(std::uint16_t index) override {
    ++queue_resets[index];
    queues.at(index).reset();
  }
  void start_queue(std::uint16_t index, std::unique_ptr<VirtQueue> queue) override {
    queues.at(index) = std::move(queue);
  }
  void interrupts_changed() override { ++interrupt_changes; }
  std::span<const FeatureDependency> feature_dependencies() const override { return kDependencies; }
  DeviceHost& transport() { return host(); }

  std::array<std::byte, 8> config{};
  std::uint64_t features = 0;
  std::vector<std::unique_ptr<VirtQueue>> queues;
  int activations = 0;
  int resets = 0;
  int calls_while_reset = 0;
  int interrupt_changes = 0;
  bool complain = false;
  std::map<std::uint16_t, int> kicks;
  std::map<std::uint16_t, int> queue_resets;

 private:
  static constexpr std::array kDependencies = {FeatureDependency{0x4, 0x1}};
  std::array<std::uint16_t, 2> sizes_{64, 32};
};

}  // namespace balloon::vmm::test
