// A 16550A UART (National Semiconductor PC16550D data sheet), as far as an operating system's driver looks.
// Pure: bytes and interrupts go through the functions it is made with. Thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <span>

#include "vmm/bus.h"

namespace balloon::vmm {

class Uart : public BusDevice {
 public:
  static constexpr std::uint64_t kPorts = 8;
  static constexpr std::size_t kFifoSize = 16;

  struct Wires {
    std::function<void(std::byte)> transmit;  ///< a byte that the guest sends
    std::function<void()> interrupt;          ///< a pulse on the (edge-triggered) interrupt line
    std::function<void()> receive_ready;      ///< the guest made room in a full receive FIFO
  };
  explicit Uart(Wires wires) : wires_(std::move(wires)) {}

  /// How many bytes receive() takes now.
  std::size_t receive_room() const;
  /// Bytes for the guest; those beyond receive_room() are lost.
  void receive(std::span<const std::byte> bytes);

  void bus_read(std::uint64_t offset, std::span<std::byte> into) override;
  void bus_write(std::uint64_t offset, std::span<const std::byte> from) override;

 private:
  /// What the outside has to be told once the lock is released.
  struct Effects {
    bool interrupt = false;
    bool receive_ready = false;
    bool transmit = false;
    std::byte byte{};
  };
  std::uint8_t read_register(std::uint64_t offset, Effects& effects);
  void write_register(std::uint64_t offset, std::uint8_t value, Effects& effects);
  void transmit(std::uint8_t value, Effects& effects);
  std::uint8_t pop_received(Effects& effects);
  std::uint8_t interrupt_identification();
  std::uint8_t line_status() const;
  std::uint8_t modem_status() const;
  bool divisor_latch() const;
  void apply(const Effects& effects) const;

  const Wires wires_;
  mutable std::mutex mutex_;
  std::deque<std::uint8_t> received_;
  bool receive_was_full_ = false;
  bool transmitter_empty_pending_ = false;
  std::uint8_t interrupt_enable_ = 0;
  std::uint8_t fifo_control_ = 0;
  std::uint8_t line_control_ = 0x03;  ///< 8 data bits, no parity, 1 stop bit
  std::uint8_t modem_control_ = 0x08;
  std::uint8_t scratch_ = 0;
  std::uint16_t divisor_ = 12;  ///< 9600 baud
};

}  // namespace balloon::vmm
