// SPDX-License-Identifier: Apache-2.0
// Broken chains of a split ring: each is refused with its reason, none reads or writes outside RAM, loops or
// crashes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/unit/vmm/address_literals.h"
#include "tests/unit/vmm/virtio/fake_driver.h"
#include "tests/unit/vmm/virtio/ring_test.h"
#include "vmm/virtio/queue.h"

namespace balloon::vmm {
namespace {

using test::bytes;
using test::ChainBuilder;
using test::FakeQueue;
using test::kIndirect;
using test::kNext;
using test::kWrite;
using test::make_memory;
using ::testing::HasSubstr;

using QueueTest = test::RingTest<FakeQueue>;

TEST_F(QueueTest, RefusesADescriptorLoop) {
  VirtQueue queue = make();
  const GuestAddress buffer = driver().allocate(8);
  driver().set_descriptor(0, {buffer, 8, kNext, 1});
  driver().set_descriptor(1, {buffer, 8, kNext, 0});
  driver().push_available(0);
  EXPECT_THAT(refusal(queue), HasSubstr("loop"));
}

TEST_F(QueueTest, RefusesADescriptorThatIsItsOwnNext) {
  VirtQueue queue = make();
  driver().set_descriptor(3, {driver().allocate(8), 8, kNext, 3});
  driver().push_available(3);
  EXPECT_THAT(refusal(queue), HasSubstr("loop"));
}

TEST_F(QueueTest, RefusesALoopOfZeroLengthDescriptors) {
  VirtQueue queue = make();
  driver().set_descriptor(0, {0, 0, kNext, 0});
  driver().push_available(0);
  EXPECT_THAT(refusal(queue), HasSubstr("loop"));
}

TEST_F(QueueTest, RefusesAnIndirectChainLongerThanTheQueue) {
  VirtQueue queue = make();
  ChainBuilder builder(driver());
  for (int i = 0; i < kSize + 1; ++i) builder.writable(1);
  builder.submit_indirect();
  EXPECT_THAT(refusal(queue), HasSubstr("longer than the queue"));
}

TEST_F(QueueTest, RefusesALoopInAnIndirectTable) {
  VirtQueue queue = make();
  const GuestAddress table = driver().allocate(32);
  memory_.write(table, test::FakeDescriptor{0x1000, 8, kNext, 1});
  memory_.write(table + 16, test::FakeDescriptor{0x1000, 8, kNext, 0});
  driver().set_descriptor(0, {table, 32, kIndirect, 0});
  driver().push_available(0);
  EXPECT_THAT(refusal(queue), HasSubstr("loop"));
}

TEST_F(QueueTest, RefusesAHeadOutOfRange) {
  VirtQueue queue = make();
  driver().push_available(kSize);
  EXPECT_THAT(refusal(queue), HasSubstr("head 8 in a queue of 8"));
}

TEST_F(QueueTest, RefusesANextOutOfRange) {
  VirtQueue queue = make();
  driver().set_descriptor(0, {driver().allocate(8), 8, kNext, kSize});
  driver().push_available(0);
  EXPECT_THAT(refusal(queue), HasSubstr("next descriptor 8 in a table of 8"));
}

TEST_F(QueueTest, RefusesANextBeyondTheIndirectTable) {
  VirtQueue queue = make();
  const GuestAddress table = driver().allocate(16);
  memory_.write(table, test::FakeDescriptor{0x1000, 8, kNext, 1});
  driver().set_descriptor(0, {table, 16, kIndirect, 0});
  driver().push_available(0);
  EXPECT_THAT(refusal(queue), HasSubstr("next descriptor 1 in a table of 1"));
}

TEST_F(QueueTest, RefusesABufferOutsideRam) {
  for (const std::uint64_t address : {memory_.size().count(), memory_.size().count() - 7,
                                      GuestAddress{0xfee00000}, ~GuestAddress{3}, ~GuestAddress{0}}) {
    VirtQueue queue = make();
    ChainBuilder(driver()).writable_at(address, 8).submit();
    EXPECT_THAT(refusal(queue), HasSubstr("not in guest RAM")) << address;
  }
}

TEST_F(QueueTest, RefusesABufferOfFourGigabytesFromTheLastByteOfRam) {
  VirtQueue queue = make();
  ChainBuilder(driver()).writable_at(memory_.size().count() - 1, 0xffffffff).submit();
  EXPECT_THAT(refusal(queue), HasSubstr("not in guest RAM"));
}

TEST_F(QueueTest, RefusesAChainOfMoreThanFourGigabytes) {  // vm-virtio #236
  const GuestMemory large = make_memory(3 * kGiB);
  FakeQueue driver(large, kBase, kSize);
  auto queue = VirtQueue::create(large, driver.layout());
  ASSERT_TRUE(queue);
  ChainBuilder(driver).writable_at(0, 0x80000000).writable_at(0, 0x80000000).writable_at(0, 1).submit();
  EXPECT_THAT(refusal(*queue), HasSubstr("more than 4294967296 bytes"));
}

TEST_F(QueueTest, RefusesABufferThatSpansThePciHole) {
  const GuestMemory large = make_memory(4 * kGiB);
  FakeQueue driver(large, kBase, kSize);
  auto queue = VirtQueue::create(large, driver.layout());
  ASSERT_TRUE(queue);
  ChainBuilder(driver).writable_at(3_GiB - 4096, 0x40002000).submit();
  EXPECT_THAT(refusal(*queue), HasSubstr("not in guest RAM"));
}

TEST_F(QueueTest, RefusesAReadableBufferAfterAWritableOne) {
  VirtQueue queue = make();
  ChainBuilder(driver()).writable(8).readable(bytes("late")).submit();
  EXPECT_THAT(refusal(queue), HasSubstr("readable buffer after"));
}

TEST_F(QueueTest, RefusesNestedIndirectTables) {
  VirtQueue queue = make();
  const GuestAddress table = driver().allocate(16);
  memory_.write(table, test::FakeDescriptor{table, 16, kIndirect, 0});
  driver().set_descriptor(0, {table, 16, kIndirect, 0});
  driver().push_available(0);
  EXPECT_THAT(refusal(queue), HasSubstr("within an indirect"));
}

TEST_F(QueueTest, RefusesAnIndirectTableOfBadLength) {
  for (const std::uint32_t length : {0U, 1U, 15U, 17U, 0xffffffffU}) {
    VirtQueue queue = make();
    driver().set_descriptor(0, {driver().allocate(64), length, kIndirect, 0});
    driver().push_available(0);
    EXPECT_THAT(refusal(queue), HasSubstr("indirect table of")) << length;
  }
}

TEST_F(QueueTest, RefusesAnIndirectTableOutsideRam) {
  VirtQueue queue = make();
  driver().set_descriptor(0, {memory_.size().count() - 16, 32, kIndirect, 0});
  driver().push_available(0);
  EXPECT_THAT(refusal(queue), HasSubstr("not in guest RAM"));
}

TEST_F(QueueTest, RefusesAnIndirectDescriptorWithANext) {
  VirtQueue queue = make();
  driver().set_descriptor(0, {driver().allocate(16), 16, kIndirect | kNext, 1});
  driver().push_available(0);
  EXPECT_THAT(refusal(queue), HasSubstr("with a next"));
}

TEST_F(QueueTest, RefusesAnIndirectTableThatWasNotNegotiated) {
  VirtQueue queue = make(false, false);
  ChainBuilder(driver()).writable(8).submit_indirect();
  EXPECT_THAT(refusal(queue), HasSubstr("not negotiated"));
}

TEST_F(QueueTest, RefusesAnAvailableIndexThatJumpsAhead) {
  VirtQueue queue = make();
  driver().set_available_index(kSize + 1);
  EXPECT_THAT(refusal(queue), HasSubstr("9 ahead"));
}

TEST_F(QueueTest, RefusesAnAvailableIndexThatGoesBack) {
  VirtQueue queue = make();
  ChainBuilder(driver()).writable(8).submit();
  {
    auto chain = queue.take();
  }
  driver().set_available_index(0);
  EXPECT_THAT(refusal(queue), HasSubstr("ahead"));
}

TEST_F(QueueTest, ARefusedChainIsNotReturned) {
  VirtQueue queue = make();
  ChainBuilder(driver()).writable_at(memory_.size().count(), 8).submit();
  EXPECT_NE(refusal(queue), "");
  EXPECT_EQ(driver().used_index(), 0);
}

TEST_F(QueueTest, RefusesToTakeMoreThanTheQueueHolds) {  // the class of CVE-2016-5403
  VirtQueue queue = make();
  expect_no_more_than_the_queue_holds(queue, [&] {
    driver().set_descriptor(0, {0x1000, 8, kWrite, 0});
    driver().push_available(0);
  });
}

TEST_F(QueueTest, RandomRingContentsNeverHarm) {
  std::mt19937 random(20261122);
  const auto any = [&](std::uint32_t below) { return static_cast<std::uint32_t>(random() % below); };
  for (int round = 0; round < 20000; ++round) {
    VirtQueue queue = make(any(2) != 0, any(2) != 0);
    for (std::uint16_t i = 0; i < kSize; ++i) {
      driver().set_descriptor(
          i, {any_address(i, any), any(4) == 0 ? static_cast<std::uint32_t>(random()) : any(256),
              static_cast<std::uint16_t>(any(8)), static_cast<std::uint16_t>(any(kSize + 1))});
      driver().push_available(static_cast<std::uint16_t>(any(kSize + (i == 7 ? 1 : 0))));
    }
    ASSERT_NO_FATAL_FAILURE(use_all(queue, any));
  }
}

}  // namespace
}  // namespace balloon::vmm
