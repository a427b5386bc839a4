#include "vmm/devices/serial/uart.h"

#include <algorithm>
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
// Interrupt identification.
constexpr std::uint8_t kNothingPending = 0x01;
constexpr std::uint8_t kPendingTransmitterEmpty = 0x02;
constexpr std::uint8_t kPendingReceived = 0x04;
constexpr std::uint8_t kFifosEnabled = 0xc0;
// FIFO control.
constexpr std::uint8_t kFifoEnable = 0x01;
constexpr std::uint8_t kFifoClearReceive = 0x02;
constexpr std::uint8_t kFifoKept = 0xc9;  // enable, DMA mode and trigger level; the clear bits fall back to 0
// Line control, line status, modem control, modem status.
constexpr std::uint8_t kDivisorLatch = 0x80;
constexpr std::uint8_t kDataReady = 0x01;
constexpr std::uint8_t kTransmitterEmpty = 0x60;
constexpr std::uint8_t kLoopback = 0x10;
constexpr std::uint8_t kModemConnected = 0xb0;  // CTS, DSR, DCD: the other end is there and ready

}  // namespace

std::size_t Uart::receive_room() const {
  const std::lock_guard lock(mutex_);
  return (modem_control_ & kLoopback) != 0 ? 0 : kFifoSize - received_.size();
}

void Uart::receive(std::span<const std::byte> bytes) {
  Effects effects;
  {
    const std::lock_guard lock(mutex_);
    for (const std::byte byte : bytes) {
      if (received_.size() == kFifoSize) break;
      received_.push_back(static_cast<std::uint8_t>(byte));
    }
    receive_was_full_ = received_.size() == kFifoSize;
    effects.interrupt = !bytes.empty() && (interrupt_enable_ & kEnableReceived) != 0;
  }
  apply(effects);
}

void Uart::bus_read(std::uint64_t offset, std::span<std::byte> into) {
  Effects effects;
  {
    const std::lock_guard lock(mutex_);
    for (std::size_t i = 0; i < into.size(); ++i) into[i] = std::byte{read_register(offset + i, effects)};
  }
  apply(effects);
}

void Uart::bus_write(std::uint64_t offset, std::span<const std::byte> from) {
  for (std::size_t i = 0; i < from.size(); ++i) {
    Effects effects;
    {
      const std::lock_guard lock(mutex_);
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

bool Uart::divisor_latch() const { return (line_control_ & kDivisorLatch) != 0; }

std::uint8_t Uart::read_register(std::uint64_t offset, Effects& effects) {
  switch (offset) {
    case kData:
      return divisor_latch() ? static_cast<std::uint8_t>(divisor_) : pop_received(effects);
    case kInterruptEnable:
      return divisor_latch() ? static_cast<std::uint8_t>(divisor_ >> 8) : interrupt_enable_;
    case kIdentification:
      return interrupt_identification();
    case kLineControl:
      return line_control_;
    case kModemControl:
      return modem_control_;
    case kLineStatus:
      return line_status();
    case kModemStatus:
      return modem_status();
    case kScratch:
      return scratch_;
    default:
      return 0xff;
  }
}

void Uart::write_register(std::uint64_t offset, std::uint8_t value, Effects& effects) {
  switch (offset) {
    case kData:
      if (divisor_latch()) {
        divisor_ = static_cast<std::uint16_t>((divisor_ & 0xff00) | value);
      } else {
        transmit(value, effects);
      }
      return;
    case kInterruptEnable:
      if (divisor_latch()) {
        divisor_ = static_cast<std::uint16_t>((divisor_ & 0x00ff) | value << 8);
        return;
      }
      // The transmitter is always empty: enabling its interrupt raises it (and drivers test for just that).
      if ((value & ~interrupt_enable_ & kEnableTransmitterEmpty) != 0) transmitter_empty_pending_ = true;
      interrupt_enable_ = value & 0x0f;
      effects.interrupt = (interrupt_enable_ & kEnableTransmitterEmpty && transmitter_empty_pending_) ||
                          (interrupt_enable_ & kEnableReceived && !received_.empty());
      return;
    case kIdentification:  // written: FIFO control
      fifo_control_ = value & kFifoKept;
      if ((value & kFifoClearReceive) != 0) {
        received_.clear();
        effects.receive_ready = std::exchange(receive_was_full_, false);
      }
      return;
    case kLineControl:
      line_control_ = value;
      return;
    case kModemControl:
      // Leaving loopback makes room for the outside again.
      effects.receive_ready = (modem_control_ & ~value & kLoopback) != 0;
      modem_control_ = value & 0x1f;
      return;
    case kScratch:
      scratch_ = value;
      return;
    default:
      return;  // the status registers are read-only
  }
}

void Uart::transmit(std::uint8_t value, Effects& effects) {
  transmitter_empty_pending_ = true;
  effects.interrupt = (interrupt_enable_ & kEnableTransmitterEmpty) != 0;
  if ((modem_control_ & kLoopback) == 0) {
    effects.transmit = true;
    effects.byte = std::byte{value};
    return;
  }
  if (received_.size() < kFifoSize) received_.push_back(value);
  if ((interrupt_enable_ & kEnableReceived) != 0) effects.interrupt = true;
}

std::uint8_t Uart::pop_received(Effects& effects) {
  if (received_.empty()) return 0;
  const std::uint8_t value = received_.front();
  received_.pop_front();
  // Only once it is empty: the source then fills it in one go, not byte by byte.
  if (received_.empty() && std::exchange(receive_was_full_, false)) effects.receive_ready = true;
  return value;
}

std::uint8_t Uart::interrupt_identification() {
  const std::uint8_t fifos = (fifo_control_ & kFifoEnable) != 0 ? kFifosEnabled : 0;
  if ((interrupt_enable_ & kEnableReceived) != 0 && !received_.empty()) return fifos | kPendingReceived;
  // Reading this register acknowledges the transmitter's interrupt when it is the one reported.
  if ((interrupt_enable_ & kEnableTransmitterEmpty) != 0 &&
      std::exchange(transmitter_empty_pending_, false)) {
    return fifos | kPendingTransmitterEmpty;
  }
  return fifos | kNothingPending;
}

std::uint8_t Uart::line_status() const {
  return static_cast<std::uint8_t>(kTransmitterEmpty | (received_.empty() ? 0 : kDataReady));
}

std::uint8_t Uart::modem_status() const {
  if ((modem_control_ & kLoopback) == 0) return kModemConnected;
  // Loopback wires DTR to DSR, RTS to CTS, OUT1 to RI and OUT2 to DCD: autodetection writes one and reads the
  // other.
  std::uint8_t status = 0;
  if ((modem_control_ & 0x01) != 0) status |= 0x20;
  if ((modem_control_ & 0x02) != 0) status |= 0x10;
  if ((modem_control_ & 0x04) != 0) status |= 0x40;
  if ((modem_control_ & 0x08) != 0) status |= 0x80;
  return status;
}

}  // namespace balloon::vmm
