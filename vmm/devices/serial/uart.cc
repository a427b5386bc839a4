// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/serial/uart.h"

#include <algorithm>
#include <array>
#include <utility>

namespace balloon::vmm {
namespace {

// Registers (PC16550D, table II).
enum Register : std::uint64_t {
  kData,
  kInterruptEnable,
  kIdentification,
  kLineControl,
  kModemControl,
  kLineStatus,
  kModemStatus,
  kScratch
};
// Interrupt enable.
constexpr std::uint8_t kEnableReceived = 0x01;
constexpr std::uint8_t kEnableTransmitterEmpty = 0x02;
constexpr std::uint8_t kEnableLineStatus = 0x04;
constexpr std::uint8_t kEnableModemStatus = 0x08;
// Interrupt identification, by falling priority (table V).
constexpr std::uint8_t kPendingLineStatus = 0x06;
constexpr std::uint8_t kPendingReceived = 0x04;
constexpr std::uint8_t kPendingTimeout = 0x0c;  // fewer bytes than the trigger level, and no more are coming
constexpr std::uint8_t kPendingTransmitterEmpty = 0x02;
constexpr std::uint8_t kPendingModemStatus = 0x00;
constexpr std::uint8_t kNothingPending = 0x01;
constexpr std::uint8_t kFifosEnabled = 0xc0;
// FIFO control.
constexpr std::uint8_t kFifoEnable = 0x01;
constexpr std::uint8_t kFifoClearReceive = 0x02;
constexpr std::uint8_t kFifoKept = 0xc9;  // enable, DMA mode and trigger level; the clear bits fall back to 0
constexpr std::array<std::size_t, 4> kTriggerLevels = {1, 4, 8, 14};
// Line control, line status.
constexpr std::uint8_t kDivisorLatch = 0x80;
constexpr std::uint8_t kDataReady = 0x01;
constexpr std::uint8_t kOverrun = 0x02;
constexpr std::uint8_t kTransmitterEmpty = 0x60;
// Modem control, modem status.
constexpr std::uint8_t kLoopback = 0x10;
constexpr std::uint8_t kRing = 0x40;
constexpr std::uint8_t kModemConnected = 0xb0;  // CTS, DSR, DCD: the other end is there and ready

}  // namespace

std::size_t Uart::fifo_size() const { return (state_.fifo_control & kFifoEnable) != 0 ? kFifoSize : 1; }

std::size_t Uart::trigger_level() const {
  return (state_.fifo_control & kFifoEnable) != 0 ? kTriggerLevels.at(state_.fifo_control >> 6) : 1;
}

std::size_t Uart::receive_room() const {
  const MutexLock lock(mutex_);
  if ((state_.modem_control & kLoopback) != 0) return 0;
  return fifo_size() - std::min(fifo_size(), state_.received.size());
}

void Uart::receive(std::span<const std::byte> bytes) {
  Effects effects;
  {
    const MutexLock lock(mutex_);
    for (const std::byte byte : bytes) {
      if (state_.received.size() >= fifo_size()) {
        state_.overrun = true;
        break;
      }
      state_.received.push_back(static_cast<std::uint8_t>(byte));
    }
    receive_was_full_ = state_.received.size() >= fifo_size();
    effects.interrupt = !bytes.empty() &&
                        (state_.interrupt_enable & (kEnableReceived | kEnableLineStatus)) != 0 &&
                        pending() != kNothingPending;
  }
  apply(effects);
}

void Uart::bus_read(std::uint64_t offset, std::span<std::byte> into) {
  Effects effects;
  {
    const MutexLock lock(mutex_);
    for (std::size_t i = 0; i < into.size(); ++i) into[i] = std::byte{read_register(offset + i, effects)};
  }
  apply(effects);
}

void Uart::bus_write(std::uint64_t offset, std::span<const std::byte> from) {
  for (std::size_t i = 0; i < from.size(); ++i) {
    Effects effects;
    {
      const MutexLock lock(mutex_);
      write_register(offset + i, static_cast<std::uint8_t>(from[i]), effects);
    }
    apply(effects);
  }
}

void Uart::apply(const Effects& effects) const {
  if (effects.transmit) wires_.transmit(effects.byte);
  if (effects.interrupt) wires_.interrupt();
  if (effects.receive_ready) wires_.receive_ready();
}

bool Uart::divisor_latch() const { return (state_.line_control & kDivisorLatch) != 0; }

std::uint8_t Uart::read_register(std::uint64_t offset, Effects& effects) {
  switch (offset) {
    case kData:
      return divisor_latch() ? static_cast<std::uint8_t>(state_.divisor) : pop_received(effects);
    case kInterruptEnable:
      return divisor_latch() ? static_cast<std::uint8_t>(state_.divisor >> 8) : state_.interrupt_enable;
    case kIdentification:
      return interrupt_identification();
    case kLineControl:
      return state_.line_control;
    case kModemControl:
      return state_.modem_control;
    case kLineStatus:
      return line_status();
    case kModemStatus:
      return modem_status();
    case kScratch:
      return state_.scratch;
    default:
      return 0xff;
  }
}

void Uart::write_register(std::uint64_t offset, std::uint8_t value, Effects& effects) {
  switch (offset) {
    case kData:
      if (divisor_latch()) {
        state_.divisor = static_cast<std::uint16_t>((state_.divisor & 0xff00) | value);
      } else {
        transmit(value, effects);
      }
      return;
    case kInterruptEnable:
      if (divisor_latch()) {
        state_.divisor = static_cast<std::uint16_t>((state_.divisor & 0x00ff) | value << 8);
        return;
      }
      // The transmitter is always empty: enabling its interrupt raises it (and drivers test for just that).
      if ((value & ~state_.interrupt_enable & kEnableTransmitterEmpty) != 0)
        state_.transmitter_empty_pending = true;
      state_.interrupt_enable = value & 0x0f;
      effects.interrupt = pending() != kNothingPending;
      return;
    case kIdentification:
      return set_fifo_control(value, effects);
    case kLineControl:
      state_.line_control = value;
      return;
    case kModemControl:
      return set_modem_control(value, effects);
    case kScratch:
      state_.scratch = value;
      return;
    default:
      return;  // the status registers are read-only
  }
}

void Uart::set_fifo_control(std::uint8_t value, Effects& effects) {
  // Switching the FIFOs on or off empties them, whatever the clear bits say.
  const bool switched = ((value ^ state_.fifo_control) & kFifoEnable) != 0;
  // Without the enable bit no other one is written.
  state_.fifo_control = (value & kFifoEnable) != 0 ? value & kFifoKept : 0;
  if (!switched && (value & (kFifoClearReceive | kFifoEnable)) != (kFifoClearReceive | kFifoEnable)) return;
  state_.received.clear();
  // A source that found the single byte of a FIFO that is off taken may send more now.
  effects.receive_ready = std::exchange(receive_was_full_, false) || switched;
}

void Uart::set_modem_control(std::uint8_t value, Effects& effects) {
  const std::uint8_t before = modem_lines();
  // Leaving loopback makes room for the outside again.
  effects.receive_ready = (state_.modem_control & ~value & kLoopback) != 0;
  state_.modem_control = value & 0x1f;
  const std::uint8_t after = modem_lines();
  // CTS, DSR and DCD tell each change, RI only its end (8.6.7 of the data sheet).
  const auto changed = static_cast<std::uint8_t>((before ^ after) & ~kRing);
  const auto ring_ended = static_cast<std::uint8_t>(before & ~after & kRing);
  state_.modem_deltas |= static_cast<std::uint8_t>((changed | ring_ended) >> 4);
  effects.interrupt = pending() == kPendingModemStatus;
}

void Uart::transmit(std::uint8_t value, Effects& effects) {
  state_.transmitter_empty_pending = true;
  if ((state_.modem_control & kLoopback) == 0) {
    effects.transmit = true;
    effects.byte = std::byte{value};
  } else if (state_.received.size() < fifo_size()) {
    state_.received.push_back(value);
  } else {
    state_.overrun = true;
  }
  effects.interrupt = pending() != kNothingPending;
}

std::uint8_t Uart::pop_received(Effects& effects) {
  if (state_.received.empty()) return 0;
  const std::uint8_t value = state_.received.front();
  state_.received.erase(state_.received.begin());
  // Only once it is empty: the source then fills it in one go, not byte by byte.
  if (state_.received.empty() && std::exchange(receive_was_full_, false)) effects.receive_ready = true;
  return value;
}

std::uint8_t Uart::pending() const {
  const auto enabled = [&](std::uint8_t bit)
                           REQUIRES(mutex_) { return (state_.interrupt_enable & bit) != 0; };
  if (enabled(kEnableLineStatus) && state_.overrun) return kPendingLineStatus;
  if (enabled(kEnableReceived) && !state_.received.empty()) {
    // A byte that waits below the trigger level has waited long enough: the line has nothing else to say.
    return state_.received.size() >= trigger_level() ? kPendingReceived : kPendingTimeout;
  }
  if (enabled(kEnableTransmitterEmpty) && state_.transmitter_empty_pending) return kPendingTransmitterEmpty;
  if (enabled(kEnableModemStatus) && state_.modem_deltas != 0) return kPendingModemStatus;
  return kNothingPending;
}

std::uint8_t Uart::interrupt_identification() {
  const std::uint8_t code = pending();
  // Reading this register acknowledges the transmitter's interrupt when it is the one reported.
  if (code == kPendingTransmitterEmpty) state_.transmitter_empty_pending = false;
  return code | ((state_.fifo_control & kFifoEnable) != 0 ? kFifosEnabled : 0);
}

std::uint8_t Uart::line_status() {
  // Reading acknowledges the errors.
  return static_cast<std::uint8_t>(kTransmitterEmpty | (state_.received.empty() ? 0 : kDataReady) |
                                   (std::exchange(state_.overrun, false) ? kOverrun : 0));
}

std::uint8_t Uart::modem_lines() const {
  if ((state_.modem_control & kLoopback) == 0) return kModemConnected;
  // Loopback wires DTR to DSR, RTS to CTS, OUT1 to RI and OUT2 to DCD: autodetection writes one and reads the
  // other.
  std::uint8_t status = 0;
  if ((state_.modem_control & 0x01) != 0) status |= 0x20;
  if ((state_.modem_control & 0x02) != 0) status |= 0x10;
  if ((state_.modem_control & 0x04) != 0) status |= 0x40;
  if ((state_.modem_control & 0x08) != 0) status |= 0x80;
  return status;
}

std::uint8_t Uart::modem_status() {
  return static_cast<std::uint8_t>(modem_lines() | std::exchange(state_.modem_deltas, 0));
}

UartState Uart::save() const {
  const MutexLock lock(mutex_);
  return state_;
}

void Uart::load(const UartState& state) {
  const MutexLock lock(mutex_);
  state_ = state;
  if (state_.received.size() > fifo_size()) state_.received.resize(fifo_size());
  receive_was_full_ = state_.received.size() >= fifo_size();
}

}  // namespace balloon::vmm
