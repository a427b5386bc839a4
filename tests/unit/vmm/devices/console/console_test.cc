// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/console/console.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <thread>

#include "tests/unit/vmm/address_literals.h"
#include "tests/unit/vmm/manual_clock.h"
#include "tests/unit/vmm/virtio/fake_driver.h"

namespace balloon::vmm::test {
namespace {

class RecordingBackend final : public SerialBackend {
 public:
  void transmit(std::byte) override { throw std::logic_error("a console writes whole buffers"); }
  std::size_t transmit_some(std::span<const iovec> buffers) override {
    const std::lock_guard lock(mutex);
    ++calls;
    std::size_t taken = 0;
    for (const iovec& buffer : buffers) {
      const std::size_t part = std::min(buffer.iov_len, room - std::min(room, taken));
      sent.append(static_cast<const char*>(buffer.iov_base), part);
      taken += part;
    }
    room -= std::min(room, taken);
    if (slow) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return taken;
  }
  void attach(SerialSink* wanted) override { sink = wanted; }
  void resume_input() override { ++resumed; }
  std::string text() {
    const std::lock_guard lock(mutex);
    return sent;
  }
  std::size_t size() {
    const std::lock_guard lock(mutex);
    return sent.size();
  }
  std::mutex mutex;
  std::string sent;
  std::size_t room = SIZE_MAX;  ///< taken before the reader is behind
  bool slow = false;            ///< a piece takes a millisecond
  std::atomic<int> calls = 0;
  SerialSink* sink = nullptr;
  std::atomic<int> resumed = 0;
};

class ConsoleTest : public testing::Test {
 protected:
  ConsoleTest() {
    driver = std::make_unique<FakeDriver>(*console, memory);
    driver->start();
  }
  ~ConsoleTest() override { driver.reset(); }
  void type(std::string_view text) { backend.sink->receive(std::as_bytes(std::span(text))); }
  std::string read(GuestAddress at, std::size_t size) {
    std::string text(size, 0);
    memory.read(at, std::as_writable_bytes(std::span(text)));
    return text;
  }
  /// Makes a receive buffer of `size` available; where it lies.
  GuestAddress receive_buffer(std::uint32_t size) {
    const GuestAddress at = driver->queue(0).allocate(size);
    ChainBuilder(driver->queue(0)).writable_at(at, size).submit();
    return at;
  }

  GuestMemory memory = make_memory();
  std::unique_ptr<EventLoop> loop = std::move(*EventLoop::create("test-loop"));
  RecordingBackend backend;
  std::unique_ptr<Console> console = std::move(*Console::create(backend, *loop));
  std::unique_ptr<FakeDriver> driver;
};

TEST_F(ConsoleTest, WhatTheGuestWritesIsTransmitted) {
  const std::string text = "hello, host\n";
  ChainBuilder(driver->queue(1))
      .readable(std::as_bytes(std::span(text)))
      .readable(std::as_bytes(std::span(text)))
      .submit();
  EXPECT_EQ(driver->kick_and_wait(1)->length, 0U);
  EXPECT_EQ(backend.text(), text + text);
}

TEST_F(ConsoleTest, AChainIsTransmittedInOneGoNotByteByByte) {
  const std::string text(10'000, 'x');
  ChainBuilder(driver->queue(1))
      .readable(std::as_bytes(std::span(text)))
      .readable(std::as_bytes(std::span(text)))
      .submit();
  ASSERT_TRUE(driver->kick_and_wait(1));
  EXPECT_EQ(backend.size(), 20'000U);
  EXPECT_EQ(backend.calls, 1);
}

TEST_F(ConsoleTest, AChainOfAnyLengthIsWorkedOffInShortTurns) {
  backend.slow = true;
  constexpr std::uint32_t kBuffer = 8_MiB;
  ChainBuilder builder(driver->queue(1));
  for (int i = 0; i < 4; ++i) builder.readable_at(32_MiB, kBuffer);  // all the same: 32 MiB for 8
  builder.submit();
  const auto start = std::chrono::steady_clock::now();
  driver->kick(1);  // holds the mutex, as the loop does for each turn
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(100));
  EXPECT_LT(backend.size(), 4 * kBuffer);
  ASSERT_TRUE(eventually([&] { return driver->queue(1).pop_used().has_value(); }));
  EXPECT_EQ(backend.size(), 4 * kBuffer) << "all of it, once";
}

TEST_F(ConsoleTest, OthersGetTheMutexWhileALongChainIsUnderWay) {
  backend.slow = true;
  ChainBuilder(driver->queue(1)).readable_at(16_MiB, 32_MiB).submit();
  driver->kick(1);
  for (int i = 0; i < 20; ++i) {
    const auto start = std::chrono::steady_clock::now();
    driver->read_config<std::uint32_t>(0);
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(100));
  }
  EXPECT_EQ(driver->queue(1).used_index(), 0) << "it is still under way";
}

TEST_F(ConsoleTest, AReaderThatIsBehindIsWaitedForWithoutSpinningAndNothingIsLost) {
  backend.room = 6;
  const std::string text = "hello, host\n";
  ChainBuilder(driver->queue(1)).readable(std::as_bytes(std::span(text))).submit();
  driver->kick(1);
  catch_up(*loop);
  EXPECT_LE(backend.calls, 3) << "one that went, and one for the kick and for the driver's start each";
  EXPECT_EQ(driver->queue(1).used_index(), 0);
  {
    const std::lock_guard lock(backend.mutex);
    backend.room = 100;
  }
  backend.sink->transmit_ready();
  ASSERT_TRUE(eventually([&] { return driver->queue(1).used_index() == 1; }));
  EXPECT_EQ(backend.text(), text);
}

TEST_F(ConsoleTest, AResetForgetsTheOutputThatIsUnderWay) {
  backend.room = 3;
  const std::string text = "never to be seen";
  for (const bool whole : {true, false}) {
    ChainBuilder(driver->queue(1)).readable(std::as_bytes(std::span(text))).submit();
    driver->kick(1);
    whole ? driver->reset() : driver->reset_queue(1);
    {
      const std::lock_guard lock(backend.mutex);
      backend.room = 100;
    }
    backend.sink->transmit_ready();
    driver->kick(1);
    catch_up(*loop);
    EXPECT_EQ(driver->queue(1).used_index(), 0) << "the rings are the driver's again";
    EXPECT_EQ(backend.text(), "nev");
    if (whole) driver->start();
    const std::lock_guard lock(backend.mutex);
    backend.sent.clear();
    backend.room = 3;
  }
}

TEST_F(ConsoleTest, ReceiveBuffersWithoutRoomAreReturnedInShortTurns) {
  for (int i = 0; i < Console::kQueueSize; ++i)
    ChainBuilder(driver->queue(0)).readable_at(driver->queue(0).allocate(1), 1).submit();
  {
    const std::lock_guard lock(console->mutex());
    console->process_queue(0);
  }
  EXPECT_EQ(driver->queue(0).used_index(), 0) << "they wait for input";
  type("x");
  const int at_once = driver->queue(0).used_index();
  EXPECT_LE(at_once, TurnBudget::kChains);
  EXPECT_TRUE(eventually([&] { return driver->queue(0).used_index() == Console::kQueueSize; }));
}

TEST_F(ConsoleTest, WhatIsTypedReachesTheGuestsBuffers) {
  const GuestAddress at = receive_buffer(16);
  type("ls\n");
  EXPECT_EQ(driver->queue(0).pop_used()->length, 3U);
  EXPECT_EQ(read(at, 3), "ls\n");
  EXPECT_EQ(driver->host().queue_interrupts(0), 1);
}

TEST_F(ConsoleTest, InputWaitsForBuffersAndIsSplitOverThem) {
  type("0123456789");
  const GuestAddress one = receive_buffer(4);
  const GuestAddress two = receive_buffer(4);
  driver->kick(0);
  EXPECT_EQ(read(one, 4) + read(two, 4), "01234567");
  const GuestAddress three = receive_buffer(4);
  driver->kick(0);
  EXPECT_EQ(read(three, 2), "89");
}

TEST_F(ConsoleTest, TheSourceWaitsWhileTheGuestTakesNothingAndGoesOnAfterwards) {
  type("0123456789");
  EXPECT_EQ(console->receive_room(), Console::kInputRoom - 10);
  type(std::string(Console::kInputRoom, 'x'));
  EXPECT_EQ(console->receive_room(), 0U);
  EXPECT_EQ(backend.resumed, 0);
  receive_buffer(Console::kInputRoom);
  driver->kick(0);
  EXPECT_EQ(backend.resumed, 1);
  EXPECT_EQ(console->receive_room(), Console::kInputRoom);
}

TEST_F(ConsoleTest, AResetForgetsTheInputThatWaitsAndItsSourceGoesOn) {
  type(std::string(Console::kInputRoom, 'x'));
  driver->reset();
  EXPECT_EQ(backend.resumed, 1);
  EXPECT_EQ(console->receive_room(), Console::kInputRoom);
  driver->reset();
  EXPECT_EQ(backend.resumed, 1) << "nothing waits any more";
}

TEST_F(ConsoleTest, ItHasOnePort) { EXPECT_EQ(driver->read_config<std::uint32_t>(4), 1U) << "max_nr_ports"; }

TEST_F(ConsoleTest, InputWaitsWhileTheDriverHasTakenItsQueueBack) {  // RING_RESET
  receive_buffer(16);
  driver->reset_queue(0);
  type("ls");
  EXPECT_EQ(driver->queue(0).used_index(), 0);
  const std::string text = "still here";
  ChainBuilder(driver->queue(1)).readable(std::as_bytes(std::span(text))).submit();
  ASSERT_TRUE(driver->kick_and_wait(1));
  EXPECT_EQ(backend.text(), text) << "the other queue goes on";
  driver->restart_queue(0);
  const GuestAddress at = receive_buffer(16);
  driver->kick(0);
  EXPECT_EQ(driver->queue(0).pop_used()->length, 2U);
  EXPECT_EQ(read(at, 2), "ls");
}

TEST_F(ConsoleTest, AnEmergencyWriteNeedsNoQueues) {
  driver->reset();
  driver->write_config<std::uint32_t>(8, 'P');
  driver->write_config<std::uint32_t>(4, 'x');  // not a field to be written
  EXPECT_EQ(backend.text(), "P");
}

TEST_F(ConsoleTest, AReadableReceiveBufferIsReturnedEmptyAndInputIsKept) {
  ChainBuilder(driver->queue(0)).readable_at(driver->queue(0).allocate(16), 16).submit();
  const GuestAddress at = receive_buffer(8);
  type("ab");
  EXPECT_EQ(driver->queue(0).pop_used()->length, 0U);
  EXPECT_EQ(driver->queue(0).pop_used()->length, 2U);
  EXPECT_EQ(read(at, 2), "ab");
}

TEST_F(ConsoleTest, ABufferOutsideRamBreaksTheDeviceNotTheProcess) {
  ChainBuilder(driver->queue(1)).readable_at(1ULL << 40, 64).submit();
  driver->kick(1);
  EXPECT_TRUE(eventually([&] { return !driver->host().reset_reason().empty(); }));
  type("still here");
}

}  // namespace
}  // namespace balloon::vmm::test
