// SPDX-License-Identifier: Apache-2.0
// A 16550A UART (National Semiconductor PC16550D data sheet): registers, FIFOs, the four interrupts in their
// order of priority, loopback and the modem lines. Bytes take no time on its wire, so the transmitter is
// always empty. Pure: bytes and interrupts go through the functions it is made with. Thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/mutex.h"
#include "vmm/bus.h"
#include "vmm/devices/serial/sink.h"

namespace balloon::vmm {

/// What a guest has set in a UART, and what waits for it there.
struct UartState {
  std::uint8_t interrupt_enable = 0;
  std::uint8_t fifo_control = 0;
  std::uint8_t line_control = 0x03;  ///< 8 data bits, no parity, 1 stop bit
  std::uint8_t modem_control = 0x08;
  std::uint8_t scratch = 0;
  std::uint16_t divisor = 12;  ///< 9600 baud
  std::vector<std::uint8_t> received;
  bool transmitter_empty_pending = false;
  bool overrun = false;
  std::uint8_t modem_deltas = 0;  ///< the lower half of the modem status register
};

class Uart : public BusDevice, public SerialSink {
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
  std::size_t receive_room() const override;
  /// Bytes for the guest; those beyond receive_room() are lost, and the guest is told (overrun).
  void receive(std::span<const std::byte> bytes) override;

  void bus_read(std::uint64_t offset, std::span<std::byte> into) override;
  void bus_write(std::uint64_t offset, std::span<const std::byte> from) override;

  UartState save() const;
  /// Takes over what another UART was in; FIFO contents beyond kFifoSize are dropped.
  void load(const UartState& state);

 private:
  /// What the outside has to be told once the lock is released.
  struct Effects {
    bool interrupt = false;
    bool receive_ready = false;
    bool transmit = false;
    std::byte byte{};
  };
  std::uint8_t read_register(std::uint64_t offset, Effects& effects) REQUIRES(mutex_);
  void write_register(std::uint64_t offset, std::uint8_t value, Effects& effects) REQUIRES(mutex_);
  void transmit(std::uint8_t value, Effects& effects) REQUIRES(mutex_);
  void set_fifo_control(std::uint8_t value, Effects& effects) REQUIRES(mutex_);
  void set_modem_control(std::uint8_t value, Effects& effects) REQUIRES(mutex_);
  std::uint8_t pop_received(Effects& effects) REQUIRES(mutex_);
  /// Interrupt identification code of the most urgent enabled interrupt.
  std::uint8_t pending() const REQUIRES(mutex_);
  std::uint8_t interrupt_identification() REQUIRES(mutex_);
  std::uint8_t line_status() REQUIRES(mutex_);
  std::uint8_t modem_lines() const REQUIRES(mutex_);
  std::uint8_t modem_status() REQUIRES(mutex_);
  std::size_t fifo_size() const REQUIRES(mutex_);
  std::size_t trigger_level() const REQUIRES(mutex_);
  bool divisor_latch() const REQUIRES(mutex_);
  void apply(const Effects& effects) const;

  const Wires wires_;
  mutable Mutex mutex_;
  UartState state_ GUARDED_BY(mutex_);
  bool receive_was_full_ GUARDED_BY(mutex_) = false;
};

}  // namespace balloon::vmm
