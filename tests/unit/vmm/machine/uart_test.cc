// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/serial/uart.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>

namespace balloon::vmm::test {
namespace {

class UartTest : public testing::Test {
 protected:
  std::uint8_t in(std::uint64_t reg) {
    std::byte value{};
    uart.bus_read(reg, std::span(&value, 1));
    return static_cast<std::uint8_t>(value);
  }
  void out(std::uint64_t reg, std::uint8_t value) {
    const std::byte byte{value};
    uart.bus_write(reg, std::span(&byte, 1));
  }
  void receive(std::string_view text) { uart.receive(std::as_bytes(std::span(text))); }

  std::string sent;
  int interrupts = 0;
  int ready = 0;
  Uart uart{{.transmit = [this](std::byte byte) { sent += static_cast<char>(byte); },
             .interrupt = [this] { ++interrupts; },
             .receive_ready = [this] { ++ready; }}};
};

TEST_F(UartTest, WhatTheGuestWritesIsSent) {
  for (const char c : std::string("hello")) out(0, static_cast<std::uint8_t>(c));
  EXPECT_EQ(sent, "hello");
  EXPECT_EQ(in(5) & 0x60, 0x60) << "the transmitter is always ready";
  EXPECT_EQ(interrupts, 0);
}

TEST_F(UartTest, WhatIsReceivedIsReadInOrder) {
  out(2, 0x01);
  receive("ab");
  EXPECT_EQ(in(5) & 1, 1);
  EXPECT_EQ(in(0), 'a');
  EXPECT_EQ(in(0), 'b');
  EXPECT_EQ(in(5) & 1, 0);
  EXPECT_EQ(in(0), 0) << "an empty receiver";
}

TEST_F(UartTest, ReceivedDataInterruptsWhenEnabled) {
  out(1, 0x01);
  receive("a");
  EXPECT_EQ(interrupts, 1);
  EXPECT_EQ(in(2) & 0x0f, 0x04);
  in(0);
  EXPECT_EQ(in(2) & 0x0f, 0x01) << "nothing pending";
}

TEST_F(UartTest, EnablingTheTransmitterInterruptRaisesItAndReadingAcknowledges) {
  out(1, 0x02);
  EXPECT_EQ(interrupts, 1);
  EXPECT_EQ(in(2) & 0x0f, 0x02);
  EXPECT_EQ(in(2) & 0x0f, 0x01);
  out(0, 'x');
  EXPECT_EQ(interrupts, 2);
}

TEST_F(UartTest, AFullFifoTakesNoMoreAndAsksForMoreOnceEmpty) {
  out(2, 0x01);
  ready = 0;
  receive("0123456789abcdef");
  EXPECT_EQ(uart.receive_room(), 0U);
  receive("lost");
  for (int i = 0; i < 15; ++i) in(0);
  EXPECT_EQ(ready, 0);
  EXPECT_EQ(in(0), 'f');
  EXPECT_EQ(ready, 1);
  EXPECT_EQ(uart.receive_room(), Uart::kFifoSize);
}

TEST_F(UartTest, ClearingTheFifoAsksForMoreToo) {
  out(2, 0x01);
  ready = 0;
  receive("0123456789abcdef");
  out(2, 0x07);
  EXPECT_EQ(ready, 1);
  EXPECT_EQ(in(5) & 1, 0);
  EXPECT_EQ(in(2) & 0xc0, 0xc0) << "a 16550A with its FIFOs on";
}

TEST_F(UartTest, WithItsFifosOffItHoldsOneByte) {
  EXPECT_EQ(uart.receive_room(), 1U);
  receive("ab");
  EXPECT_EQ(in(0), 'a');
  EXPECT_EQ(ready, 1);
  EXPECT_EQ(in(5) & 1, 0);
  EXPECT_EQ(in(2) & 0xc0, 0);
}

TEST_F(UartTest, LostBytesShowAsAnOverrunUntilTheLineStatusIsRead) {
  out(1, 0x04);
  receive("ab");
  EXPECT_EQ(interrupts, 1);
  EXPECT_EQ(in(2) & 0x0f, 0x06) << "line status comes first";
  EXPECT_EQ(in(5) & 0x03, 0x03);
  EXPECT_EQ(in(5) & 0x03, 0x01);
  EXPECT_EQ(in(2) & 0x0f, 0x01);
}

TEST_F(UartTest, BytesBelowTheTriggerLevelAreATimeout) {
  out(2, 0x81);  // FIFOs on, 8 bytes
  out(1, 0x01);
  receive("1234567");
  EXPECT_EQ(in(2) & 0x0f, 0x0c);
  receive("8");
  EXPECT_EQ(in(2) & 0x0f, 0x04);
  for (int i = 0; i < 8; ++i) in(0);
  EXPECT_EQ(in(2) & 0x0f, 0x01);
}

TEST_F(UartTest, SwitchingTheFifosEmptiesThem) {
  out(2, 0x01);
  receive("abc");
  out(2, 0x00);
  EXPECT_EQ(in(5) & 1, 0);
}

TEST_F(UartTest, ModemLinesThatChangeInLoopbackInterruptAndTellWhich) {
  out(4, 0x10);
  in(6);
  out(1, 0x08);
  out(4, 0x12);  // RTS, wired to CTS
  EXPECT_EQ(interrupts, 1);
  EXPECT_EQ(in(2) & 0x0f, 0x00);
  EXPECT_EQ(in(6), 0x11);
  EXPECT_EQ(in(6), 0x10) << "reading acknowledges";
  out(4, 0x14);  // CTS falls; OUT1, wired to RI, rises, of which only the end counts
  EXPECT_EQ(in(6), 0x41);
  out(4, 0x10);
  EXPECT_EQ(in(6), 0x04);
}

TEST_F(UartTest, LoopbackWiresEachLineOfItsOwnToAnotherOne) {
  struct Wire {
    std::uint8_t control;
    std::uint8_t status;
  };
  // DTR to DSR, RTS to CTS, OUT1 to RI, OUT2 to DCD.
  for (const auto& [control, status] :
       {Wire{0x01, 0x20}, Wire{0x02, 0x10}, Wire{0x04, 0x40}, Wire{0x08, 0x80}}) {
    out(4, 0x10);
    EXPECT_EQ(in(6) & 0xf0, 0);
    out(4, static_cast<std::uint8_t>(0x10 | control));
    EXPECT_EQ(in(6) & 0xf0, status);
    EXPECT_EQ(in(4), 0x10 | control);
  }
  out(4, 0xff);
  EXPECT_EQ(in(4), 0x1f) << "the upper three bits are not there";
}

TEST_F(UartTest, AFreshOneStandsAsFirmwareFindsIt) {
  EXPECT_EQ(in(1), 0x00);
  EXPECT_EQ(in(2), 0x01) << "nothing is pending, and the FIFOs are off";
  EXPECT_EQ(in(3), 0x03) << "8 data bits, no parity, 1 stop bit";
  EXPECT_EQ(in(4), 0x08);
  EXPECT_EQ(in(5), 0x60);
  EXPECT_EQ(in(6), 0xb0) << "the other end is there and ready";
  EXPECT_EQ(in(7), 0x00);
  EXPECT_EQ(in(8), 0xff) << "nothing is there";
  out(3, 0x80);
  EXPECT_EQ(in(0) | in(1) << 8, 12) << "9600 baud";
  out(2, 0x01);
  EXPECT_EQ(in(2), 0xc1) << "the FIFOs are on";
}

TEST_F(UartTest, EachTriggerLevelIsThatOfTheDataSheet) {
  out(1, 0x01);
  for (const auto& [control, level] : {std::pair{0x01, 1}, {0x41, 4}, {0x81, 8}, {0xc1, 14}}) {
    out(2, 0x00);
    out(2, static_cast<std::uint8_t>(control));
    receive(std::string(static_cast<std::size_t>(level) - 1, 'x'));
    EXPECT_EQ(in(2) & 0x0f, level == 1 ? 0x01 : 0x0c) << level;
    receive("x");
    EXPECT_EQ(in(2) & 0x0f, 0x04) << level;
  }
}

TEST_F(UartTest, OfSeveralInterruptsTheFirstInItsOrderIsTold) {
  out(4, 0x10);
  in(6);
  out(1, 0x0f);
  out(4, 0x12);  // a modem line
  out(0, 'a');   // looped back: received, and the transmitter is empty
  out(0, 'b');   // too much for the one byte that its FIFO holds while it is off
  EXPECT_EQ(in(2), 0x06) << "line status";
  EXPECT_EQ(in(5) & 0x02, 0x02);
  EXPECT_EQ(in(2), 0x04) << "received data";
  EXPECT_EQ(in(0), 'a');
  EXPECT_EQ(in(2), 0x02) << "transmitter empty";
  EXPECT_EQ(in(2), 0x00) << "modem status";
  EXPECT_EQ(in(6), 0x11);
  EXPECT_EQ(in(2), 0x01) << "nothing more";
}

TEST_F(UartTest, WhatIsNotEnabledInterruptsNobody) {
  receive("a");
  out(4, 0x10);
  out(4, 0x12);
  out(0, 'b');
  EXPECT_EQ(interrupts, 0);
  out(4, 0x08);
  out(1, 0x02);
  EXPECT_EQ(interrupts, 1) << "the transmitter is empty";
  receive("c");
  EXPECT_EQ(interrupts, 1) << "that it still is, is no news";
}

TEST_F(UartTest, ASavedUartGoesOnWhereItWas) {
  out(2, 0x81);
  out(3, 0x83);
  out(0, 0x01);
  out(3, 0x1b);
  out(1, 0x05);
  out(7, 0x5a);
  receive("abc");
  Uart other{{.transmit = [](std::byte) {}, .interrupt = [] {}, .receive_ready = [] {}}};
  other.load(uart.save());
  const auto read = [&](std::uint64_t reg) {
    std::byte value{};
    other.bus_read(reg, std::span(&value, 1));
    return static_cast<std::uint8_t>(value);
  };
  EXPECT_EQ(read(7), 0x5a);
  EXPECT_EQ(read(3), 0x1b);
  EXPECT_EQ(read(1), 0x05);
  EXPECT_EQ(read(2) & 0x0f, 0x0c);
  EXPECT_EQ(read(0), 'a');
  EXPECT_EQ(other.receive_room(), Uart::kFifoSize - 2);
}

TEST_F(UartTest, ASavedUartWithMoreThanFitsIsCut) {
  UartState state;
  state.received.assign(100'000, 'x');
  uart.load(state);
  EXPECT_EQ(uart.receive_room(), 0U);
  in(0);
  EXPECT_EQ(in(5) & 1, 0);
}

TEST_F(UartTest, LoopbackPassesTheTestOfLinuxsAutoconfig) {
  // drivers/tty/serial/8250/8250_port.c, autoconfig(): MCR = LOOP|OUT2|RTS must show in MSR as DCD|CTS.
  out(4, 0x1a);
  EXPECT_EQ(in(6) & 0xf0, 0x90);
  out(0, 'x');
  EXPECT_EQ(sent, "");
  EXPECT_EQ(in(0), 'x');
  EXPECT_EQ(uart.receive_room(), 0U) << "the outside waits while the port talks to itself";
  out(4, 0x08);
  EXPECT_EQ(ready, 1);
  EXPECT_EQ(in(6) & 0xb0, 0xb0);
}

TEST_F(UartTest, InterruptEnableKeepsFourBitsAndScratchAll) {
  out(1, 0xff);
  EXPECT_EQ(in(1), 0x0f);
  out(7, 0xa5);
  EXPECT_EQ(in(7), 0xa5);
}

TEST_F(UartTest, TheDivisorLatchHidesDataAndInterruptEnable) {
  out(3, 0x83);
  out(0, 0x01);
  out(1, 0x02);
  EXPECT_EQ(in(0), 0x01);
  EXPECT_EQ(in(1), 0x02);
  out(3, 0x03);
  EXPECT_EQ(sent, "");
  EXPECT_EQ(in(1), 0x00);
}

TEST_F(UartTest, ReceivingNothingInterruptsNobody) {
  out(1, 0x01);
  receive("");
  EXPECT_EQ(interrupts, 0);
}

TEST_F(UartTest, WideAccessesAreTakenByteByByte) {
  std::array<std::byte, 4> wide{};
  uart.bus_read(4, wide);
  const std::array<std::byte, 2> word{std::byte{'h'}, std::byte{0}};
  uart.bus_write(0, word);
  EXPECT_EQ(sent, "h");
}

}  // namespace
}  // namespace balloon::vmm::test
