// SPDX-License-Identifier: Apache-2.0
#include "vmm/virtio/packed_ring.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/unit/vmm/virtio/fake_driver.h"
#include "tests/unit/vmm/virtio/fake_packed_queue.h"
#include "tests/unit/vmm/virtio/ring_test.h"
#include "vmm/virtio/queue.h"

namespace balloon::vmm {
namespace {

using test::bytes;
using test::FakePackedQueue;
using test::kIndirect;
using test::kNext;
using test::kPackedAvailable;
using test::kPackedUsed;
using test::kWrite;
using test::make_memory;
using test::PackedDescriptor;
using ::testing::HasSubstr;

constexpr std::uint32_t kEventWrap = 0x8000;

class PackedRingTest : public test::RingTest<FakePackedQueue> {
 protected:
  GuestAddress text(std::string_view what) { return driver().allocate(bytes(what)); }
  PackedDescriptor writable(std::uint32_t size) { return {driver().allocate(size), size, 0, kWrite}; }
};

TEST_F(PackedRingTest, TakesAnySizeUpTo32768ButNone) {
  for (const int size : {1, 3, 7, 8, 300}) make(false, true, static_cast<std::uint16_t>(size));
  for (const int size : {0, 32769, 65535}) {
    QueueLayout layout{.size = static_cast<std::uint16_t>(size),
                       .descriptors = 0x100000,
                       .available = 0x1000,
                       .used = 0x2000,
                       .packed = true};
    EXPECT_FALSE(VirtQueue::create(memory_, layout)) << size;
  }
}

TEST_F(PackedRingTest, RefusesMisalignedPartsAndPartsOutsideRam) {
  const QueueLayout good{
      .size = 8, .descriptors = 0x1000, .available = 0x2000, .used = 0x3000, .packed = true};
  ASSERT_TRUE(VirtQueue::create(memory_, good));
  for (const GuestAddress bad : {GuestAddress{0x1002}, memory_.size().count(), ~GuestAddress{15}}) {
    for (GuestAddress QueueLayout::* part :
         {&QueueLayout::descriptors, &QueueLayout::available, &QueueLayout::used}) {
      QueueLayout layout = good;
      layout.*part = bad;
      EXPECT_FALSE(VirtQueue::create(memory_, layout)) << bad;
    }
  }
}

TEST_F(PackedRingTest, AnEmptyQueueGivesNothing) { expect_an_empty_queue_gives_nothing(); }

TEST_F(PackedRingTest, AChainIsReadWrittenAndReturnedWithItsIdAndLength) {
  VirtQueue queue = make();
  const PackedDescriptor out = writable(4);
  driver().submit({{text("hello "), 6, 0, 0}, {text("world"), 5, 0, 0}, out}, 77);
  auto chain = queue.take();
  ASSERT_TRUE(chain && *chain);
  std::vector<std::byte> read(7);
  EXPECT_EQ((*chain)->read(4, read), 7U);
  EXPECT_EQ(read, bytes("o world"));
  EXPECT_EQ((*chain)->write(0, bytes("done!")), 4U) << "only what fits";
  queue.put(std::move(**chain), 4);
  const auto used = driver().pop_used();
  ASSERT_TRUE(used);
  EXPECT_EQ(used->id, 77);
  EXPECT_EQ(used->length, 4U);
  EXPECT_TRUE(used->written);
  std::vector<std::byte> written(4);
  memory_.read(out.address, written);
  EXPECT_EQ(written, bytes("done"));
}

TEST_F(PackedRingTest, AChainMayWrapAroundTheRingsEnd) {
  VirtQueue queue = make();
  for (std::uint16_t i = 0; i < 6; ++i) {
    driver().submit({writable(1)}, i);
    ASSERT_TRUE(bounce(queue));
    ASSERT_TRUE(driver().pop_used());
  }
  driver().submit({writable(1), writable(2), writable(3), writable(4)}, 9);  // places 6, 7, 0, 1
  auto chain = queue.take();
  ASSERT_TRUE(chain && *chain);
  EXPECT_EQ((*chain)->writable_size(), 10U);
  queue.put(std::move(**chain), 10);
  EXPECT_EQ(driver().pop_used()->id, 9);
  driver().submit({writable(5)}, 10);
  EXPECT_TRUE(bounce(queue));
  EXPECT_EQ(driver().pop_used()->id, 10);
}

TEST_F(PackedRingTest, WrapCountersHoldOverManyRoundsOfAnySize) {
  std::mt19937 random(7);
  for (const std::uint16_t size : std::initializer_list<std::uint16_t>{1, 2, 3, 8, 13}) {
    VirtQueue queue = make(true, true, size);
    const GuestAddress buffer = driver().allocate(8);
    for (int round = 0; round < 20'000; ++round) {
      const auto id = static_cast<std::uint16_t>(random());
      const std::size_t length = 1 + random() % size;
      driver().submit(std::vector(length, PackedDescriptor{buffer, 8, 0, kWrite}), id);
      auto chain = queue.take();
      ASSERT_TRUE(chain && *chain) << "size " << size << " round " << round;
      ASSERT_EQ((*chain)->writable().size(), length);
      queue.put(std::move(**chain), static_cast<std::uint32_t>(round));
      const auto used = driver().pop_used();
      ASSERT_TRUE(used) << "size " << size << " round " << round;
      ASSERT_EQ(used->id, id);
      ASSERT_EQ(used->length, static_cast<std::uint32_t>(round));
      ASSERT_FALSE(*queue.take()) << "a used descriptor is not available";
    }
  }
}

TEST_F(PackedRingTest, ChainsMayComeBackInAnotherOrder) {
  VirtQueue queue = make();
  driver().submit({writable(1), writable(1)}, 1);
  driver().submit({writable(1)}, 2);
  driver().submit({writable(1), writable(1), writable(1)}, 3);
  auto first = queue.take(), second = queue.take(), third = queue.take();
  ASSERT_TRUE(first && *first && second && *second && third && *third);
  queue.put(std::move(**third), 0);
  queue.put(std::move(**first), 0);
  queue.put(std::move(**second), 0);
  EXPECT_EQ(driver().pop_used()->id, 3);
  EXPECT_EQ(driver().pop_used()->id, 1);
  EXPECT_EQ(driver().pop_used()->id, 2);
  EXPECT_FALSE(driver().pop_used());
}

TEST_F(PackedRingTest, AnIndirectTableIsUsedToItsEnd) {
  VirtQueue queue = make();
  // 2.8.7: NEXT means nothing there.
  driver().submit_indirect({{text("abc"), 3, 0, 0}, {text("def"), 3, 9, kNext}, writable(16)}, 5);
  auto chain = queue.take();
  ASSERT_TRUE(chain && *chain);
  std::vector<std::byte> read(6);
  EXPECT_EQ((*chain)->read(0, read), 6U);
  EXPECT_EQ(read, bytes("abcdef"));
  EXPECT_EQ((*chain)->writable_size(), 16U);
  queue.put(std::move(**chain), 0);
  EXPECT_EQ(driver().pop_used()->id, 5);
}

TEST_F(PackedRingTest, ADescriptorThatChangesAfterItWasTakenChangesNothing) {
  VirtQueue queue = make();
  driver().submit({writable(8)}, 1);
  auto chain = queue.take();
  ASSERT_TRUE(chain && *chain);
  PackedDescriptor changed = driver().raw(0);
  changed.address = ~0ULL;
  changed.length = 0xffffffff;
  driver().set_raw(0, changed);
  EXPECT_EQ((*chain)->writable_size(), 8U);
  EXPECT_EQ((*chain)->write(0, bytes("12345678")), 8U);
}

TEST_F(PackedRingTest, ADroppedChainGoesBackEmptyAndAForgottenOneDoesNot) {
  VirtQueue queue = make();
  driver().submit({writable(8)}, 3);
  driver().submit({writable(8)}, 4);
  {
    auto chain = queue.take();
  }
  const auto used = driver().pop_used();
  ASSERT_TRUE(used);
  EXPECT_EQ(used->id, 3);
  EXPECT_EQ(used->length, 0U);
  EXPECT_FALSE(used->written);
  auto chain = queue.take();
  VirtQueue::forget(std::move(**chain));
  EXPECT_FALSE(driver().pop_used());
}

// Broken rings

TEST_F(PackedRingTest, RefusesAChainWithoutEnd) {  // the class of CVE-2026-16457: no livelock, a refusal
  VirtQueue queue = make();
  for (std::uint16_t i = 0; i < kSize; ++i) {
    driver().set_raw(i, {0x1000, 8, 0, static_cast<std::uint16_t>(kPackedAvailable | kNext)});
  }
  EXPECT_THAT(refusal(queue), HasSubstr("longer than the queue"));
}

TEST_F(PackedRingTest, RefusesBuffersOutsideRam) {
  for (const std::uint64_t address :
       {memory_.size().count(), memory_.size().count() - 7, 0xfee00000UL, ~0UL}) {
    VirtQueue queue = make();
    driver().submit({{address, 8, 0, kWrite}}, 0);
    EXPECT_THAT(refusal(queue), HasSubstr("not in guest RAM")) << address;
    EXPECT_FALSE(driver().pop_used()) << "a refused chain is not returned";
  }
}

TEST_F(PackedRingTest, RefusesBrokenIndirectTables) {
  const auto refused = [&](PackedDescriptor head, const std::vector<PackedDescriptor>& table = {},
                           bool indirect = true) {
    VirtQueue queue = make(false, indirect);
    if (head.address == 0) head.address = driver().allocate(4096);
    for (std::size_t i = 0; i < table.size(); ++i) memory_.write(head.address + i * 16, table[i]);
    head.flags |= kIndirect | kPackedAvailable;
    driver().set_raw(0, head);
    return refusal(queue);
  };
  EXPECT_THAT(refused({0, 0, 0, 0}), HasSubstr("indirect table of 0 bytes"));
  EXPECT_THAT(refused({0, 17, 0, 0}), HasSubstr("indirect table of 17 bytes"));
  EXPECT_THAT(refused({0, 0xfffffff0, 0, 0}), HasSubstr("not in guest RAM"));
  EXPECT_THAT(refused({memory_.size().count() - 16, 32, 0, 0}), HasSubstr("not in guest RAM"));
  EXPECT_THAT(refused({0, 16, 0, kNext}), HasSubstr("with a next"));
  EXPECT_THAT(refused({0, 16 * (kSize + 1), 0, 0}), HasSubstr("9 descriptors in a queue of 8"));
  EXPECT_THAT(refused({0, 16, 0, 0}, {{0x1000, 16, 0, kIndirect}}), HasSubstr("within an indirect"));
  EXPECT_THAT(refused({0, 32, 0, 0}, {{0x1000, 16, 0, kWrite}, {0x1000, 16, 0, 0}}),
              HasSubstr("readable buffer after"));
  EXPECT_THAT(refused({0, 16, 0, 0}, {{0x1000, 8, 0, 0}}, false), HasSubstr("not negotiated"));
}

TEST_F(PackedRingTest, RefusesAnIndirectDescriptorWithinAChain) {
  VirtQueue queue = make();
  driver().submit({{0x1000, 8, 0, 0}, {0x2000, 16, 0, kIndirect}}, 0);
  EXPECT_THAT(refusal(queue), HasSubstr("within a chain"));
}

TEST_F(PackedRingTest, RefusesMoreThanFourGigabytes) {
  const GuestMemory large = make_memory(3 * kGiB);
  FakePackedQueue queue_driver(large, kBase, kSize);
  auto queue = VirtQueue::create(large, queue_driver.layout());
  ASSERT_TRUE(queue);
  queue_driver.submit({{0, 0x80000000, 0, kWrite}, {0, 0x80000000, 0, kWrite}, {0, 1, 0, kWrite}}, 0);
  EXPECT_THAT(refusal(*queue), HasSubstr("more than 4294967296 bytes"));
}

TEST_F(PackedRingTest, RefusesToTakeMoreThanTheQueueHolds) {  // the class of CVE-2016-5403
  VirtQueue queue = make();
  expect_no_more_than_the_queue_holds(queue, [&] { driver().submit({{0x1000, 8, 0, kWrite}}, 0); });
}

// Events

TEST_F(PackedRingTest, WithoutEventIdxEachBatchInterruptsUnlessTheDriverForbidsIt) {
  expect_each_batch_interrupts_unless_forbidden();
}

TEST_F(PackedRingTest, WithEventIdxOnlyPassingTheEventInterrupts) {
  VirtQueue queue = make(true);
  driver().set_driver_event(2, 2, true);  // tell me when place 2 of this round is used
  const auto put_one = [&] {
    driver().submit({{0x1000, 8, 0, kWrite}}, 0);
    EXPECT_TRUE(bounce(queue));
    EXPECT_TRUE(driver().pop_used());
  };
  put_one();
  EXPECT_FALSE(queue.should_interrupt());
  put_one();
  EXPECT_FALSE(queue.should_interrupt());
  put_one();
  EXPECT_TRUE(queue.should_interrupt());
  put_one();
  EXPECT_FALSE(queue.should_interrupt());
  driver().set_driver_event(2, 1, false);  // place 1 of the next round
  for (int i = 4; i < 8; ++i) put_one();
  EXPECT_FALSE(queue.should_interrupt());
  put_one();
  put_one();
  EXPECT_TRUE(queue.should_interrupt()) << "passed within a batch";
}

TEST_F(PackedRingTest, AnEventOfTheRoundBeforeIsPassedByABatchThatWraps) {
  VirtQueue queue = make(true);
  for (int i = 0; i < 6; ++i) {
    driver().submit({{0x1000, 8, 0, kWrite}}, 0);
    ASSERT_TRUE(bounce(queue) && driver().pop_used());
  }
  queue.should_interrupt();
  driver().set_driver_event(2, 7, true);
  driver().submit({{0x1000, 8, 0, kWrite}, {0x1000, 8, 0, kWrite}, {0x1000, 8, 0, kWrite}}, 0);  // 6, 7, 0
  ASSERT_TRUE(bounce(queue));
  EXPECT_TRUE(queue.should_interrupt());
}

TEST_F(PackedRingTest, NonsenseInTheDriversEventInterruptsAtMostTooOften) {
  VirtQueue queue = make(true);
  for (std::uint32_t round = 0; round < 20'000; ++round) {
    driver().set_driver_event(static_cast<std::uint16_t>(round), static_cast<std::uint16_t>(round * 7919),
                              round % 3 == 0);
    driver().submit({{0x1000, 8, 0, kWrite}}, 0);
    ASSERT_TRUE(bounce(queue) && driver().pop_used());
    queue.should_interrupt();
  }
}

TEST_F(PackedRingTest, KicksAreDisabledAndEnabledInTheDevicesEvent) {
  VirtQueue queue = make(false);
  queue.disable_kicks();
  EXPECT_EQ(driver().device_event() >> 16, 1U);
  EXPECT_FALSE(queue.enable_kicks());
  EXPECT_EQ(driver().device_event() >> 16, 0U);
}

TEST_F(PackedRingTest, EnablingKicksAsksForTheNextPlaceWithEventIdx) {
  VirtQueue queue = make(true);
  driver().submit({{0x1000, 8, 0, kWrite}, {0x1000, 8, 0, kWrite}}, 0);
  ASSERT_TRUE(bounce(queue));
  EXPECT_FALSE(queue.enable_kicks());
  EXPECT_EQ(driver().device_event(), 2U << 16 | kEventWrap | 2);
  for (int i = 2; i < 9; ++i) {
    driver().submit({{0x1000, 8, 0, kWrite}}, 0);
    ASSERT_TRUE(bounce(queue));
  }
  EXPECT_FALSE(queue.enable_kicks());
  EXPECT_EQ(driver().device_event(), 2U << 16 | 1) << "the second round";
}

TEST_F(PackedRingTest, EnablingKicksTellsOfAChainThatCameMeanwhile) {
  expect_enabling_kicks_tells_of_a_chain_that_came_meanwhile();
}

TEST_F(PackedRingTest, AQueueGoesOnFromItsPosition) {
  VirtQueue queue = make();
  for (int i = 0; i < 11; ++i) {
    driver().submit({{0x1000, 8, 0, kWrite}}, 0);
    ASSERT_TRUE(bounce(queue) && driver().pop_used());
  }
  driver().submit({{0x1000, 8, 0, kWrite}}, 42);
  auto held = queue.take();
  ASSERT_TRUE(held && *held);
  const QueuePosition position = queue.position();
  EXPECT_EQ(position, (QueuePosition{4, 3, false, false}));
  VirtQueue::forget(std::move(**held));

  auto restored = VirtQueue::create(memory_, driver().layout());
  ASSERT_TRUE(restored);
  ASSERT_TRUE(restored->set_position(position.rewound()));
  ASSERT_TRUE(bounce(*restored)) << "what was held is taken again";
  EXPECT_EQ(driver().pop_used()->id, 42);
}

TEST_F(PackedRingTest, AnImpossiblePositionIsRefused) {
  VirtQueue queue = make();
  EXPECT_FALSE(queue.set_position({8, 0, true, true}));
  EXPECT_FALSE(queue.set_position({0, 9, true, true}));
  EXPECT_FALSE(queue.set_position({1, 2, true, true}));
  EXPECT_FALSE(queue.set_position({3, 2, true, false}));
  EXPECT_TRUE(queue.set_position({2, 2, true, false})) << "all are out";
}

// Properties

TEST_F(PackedRingTest, RandomRingContentsNeverHarm) {
  std::mt19937 random(20261122);
  const auto any = [&](std::uint32_t below) { return static_cast<std::uint32_t>(random() % below); };
  for (int round = 0; round < 20'000; ++round) {
    VirtQueue queue = make(any(2) != 0, any(2) != 0, static_cast<std::uint16_t>(1 + any(kSize)));
    for (std::uint16_t i = 0; i < queue.size(); ++i) {
      const std::uint16_t flags = static_cast<std::uint16_t>(any(8) | (any(4) != 0 ? kPackedAvailable : 0) |
                                                             (any(8) == 0 ? kPackedUsed : 0));
      driver().set_raw(i, {any_address(i, any), any(4) == 0 ? static_cast<std::uint32_t>(random()) : any(256),
                           static_cast<std::uint16_t>(random()), flags});
    }
    ASSERT_NO_FATAL_FAILURE(use_all(queue, any));
  }
}

TEST_F(PackedRingTest, ADriverOnAnotherThreadGetsEveryChainBackAndNeverSleepsForEver) {
  VirtQueue queue = make(true);
  const GuestAddress buffer = driver().allocate(8);
  pass_chains_between_threads(
      queue, kSize / 2,
      [&](std::uint32_t number) {
        driver().submit({{buffer, 4, 0, kWrite}, {buffer, 4, 0, kWrite}},
                        static_cast<std::uint16_t>(number % kSize));
      },
      [](const test::PackedUsed& used, std::uint32_t number) { EXPECT_EQ(used.id, number % kSize); });
}

}  // namespace
}  // namespace balloon::vmm
