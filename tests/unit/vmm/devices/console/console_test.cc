#include "vmm/devices/console/console.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/unit/vmm/virtio/fake_driver.h"

namespace balloon::vmm::test {
namespace {

class RecordingBackend final : public SerialBackend {
 public:
  void transmit(std::byte byte) override {
    const std::lock_guard lock(mutex);
    sent += static_cast<char>(byte);
  }
  void attach(SerialSink* wanted) override { sink = wanted; }
  void resume_input() override { ++resumed; }
  std::string text() {
    const std::lock_guard lock(mutex);
    return sent;
  }
  std::mutex mutex;
  std::string sent;
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
  type(std::string(Console::kInputRoom + 100, 'x'));
  EXPECT_EQ(console->receive_room(), 0U);
  EXPECT_EQ(backend.resumed, 0);
  receive_buffer(Console::kInputRoom);
  driver->kick(0);
  EXPECT_EQ(backend.resumed, 1);
  EXPECT_EQ(console->receive_room(), Console::kInputRoom);
}

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
