// SPDX-License-Identifier: Apache-2.0
#include "vmm/virtio/queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/unit/vmm/virtio/fake_driver.h"
#include "tests/unit/vmm/virtio/ring_test.h"

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

// Layout

TEST_F(QueueTest, RefusesASizeThatIsNoPowerOfTwo) {
  for (const int size : {0, 3, 7, 12, 40000, 65535}) {
    const auto queue = VirtQueue::create(memory_, {.size = static_cast<std::uint16_t>(size),
                                                   .descriptors = 0x1000,
                                                   .available = 0x2000,
                                                   .used = 0x3000});
    EXPECT_FALSE(queue) << size;
  }
}

TEST_F(QueueTest, RefusesMisalignedRings) {
  const QueueLayout good{.size = 8, .descriptors = 0x1000, .available = 0x2000, .used = 0x3000};
  EXPECT_TRUE(VirtQueue::create(memory_, good));
  QueueLayout bad = good;
  bad.descriptors += 8;
  EXPECT_FALSE(VirtQueue::create(memory_, bad));
  bad = good;
  bad.available += 1;
  EXPECT_FALSE(VirtQueue::create(memory_, bad));
  bad = good;
  bad.used += 2;
  EXPECT_FALSE(VirtQueue::create(memory_, bad));
}

TEST_F(QueueTest, RefusesRingsThatLeaveRam) {
  const QueueLayout good{.size = 256, .descriptors = 0x1000, .available = 0x2000, .used = 0x3000};
  for (const GuestAddress address :
       {memory_.size().count() - 16, memory_.size().count(), ~GuestAddress{15}}) {
    QueueLayout bad = good;
    bad.descriptors = address;
    EXPECT_FALSE(VirtQueue::create(memory_, bad)) << address;
    bad = good;
    bad.available = address;
    EXPECT_FALSE(VirtQueue::create(memory_, bad)) << address;
    bad = good;
    bad.used = address;
    EXPECT_FALSE(VirtQueue::create(memory_, bad)) << address;
  }
}

// Good chains

TEST_F(QueueTest, AnEmptyQueueGivesNothing) { expect_an_empty_queue_gives_nothing(); }

TEST_F(QueueTest, AChainIsReadWrittenAndReturnedWithItsHeadAndLength) {
  VirtQueue queue = make();
  ChainBuilder builder(driver());
  builder.readable(bytes("hello ")).readable(bytes("world")).writable(4).writable(4);
  const std::uint16_t head = builder.submit();

  auto chain = queue.take();
  ASSERT_TRUE(chain && *chain);
  EXPECT_EQ((*chain)->readable_size(), 11U);
  EXPECT_EQ((*chain)->writable_size(), 8U);
  std::vector<std::byte> text(7);
  EXPECT_EQ((*chain)->read(4, text), 7U);
  EXPECT_EQ(text, bytes("o world"));
  EXPECT_EQ((*chain)->write(2, bytes("abcdefgh")), 6U) << "only what fits";
  queue.put(std::move(**chain), 8);

  const auto used = driver().pop_used();
  ASSERT_TRUE(used);
  EXPECT_EQ(used->id, head);
  EXPECT_EQ(used->length, 8U);
  std::vector<std::byte> written(4);
  memory_.read(builder.address(2), written);
  EXPECT_EQ(written, bytes(std::string_view("\0\0ab", 4)));
  memory_.read(builder.address(3), written);
  EXPECT_EQ(written, bytes("cdef"));
}

TEST_F(QueueTest, AnyPartOfAChainIsReadAndWritten) {
  VirtQueue queue = make();
  ChainBuilder builder(driver());
  builder.readable(bytes("abc"))
      .readable(bytes("d"))
      .readable(bytes("efgh"))
      .writable(3)
      .writable(5)
      .submit();
  auto chain = queue.take();
  ASSERT_TRUE(chain && *chain);
  const std::string text = "abcdefgh";
  for (std::size_t offset = 0; offset <= text.size(); ++offset) {
    for (std::size_t size = 0; size <= text.size(); ++size) {
      const std::string expected = text.substr(offset, size);
      std::vector<std::byte> part(size);
      EXPECT_EQ((*chain)->read(offset, part), expected.size()) << offset << ", " << size;
      part.resize(expected.size());
      EXPECT_EQ(part, bytes(expected)) << offset << ", " << size;
    }
  }
  EXPECT_EQ((*chain)->write(4, bytes("xy")), 2U);
  std::vector<std::byte> written(5);
  memory_.read(builder.address(4), written);
  EXPECT_EQ(written, bytes(std::string_view("\0xy\0\0", 5)));
}

TEST_F(QueueTest, AnIndirectTableIsFollowed) {
  VirtQueue queue = make();
  ChainBuilder(driver()).readable(bytes("abc")).readable(bytes("def")).writable(16).submit_indirect();
  auto chain = queue.take();
  ASSERT_TRUE(chain && *chain);
  std::vector<std::byte> text(6);
  EXPECT_EQ((*chain)->read(0, text), 6U);
  EXPECT_EQ(text, bytes("abcdef"));
  EXPECT_EQ((*chain)->writable_size(), 16U);
}

TEST_F(QueueTest, AnIndirectTableMayBeAsLongAsTheQueue) {  // as Linux's block driver makes them when it swaps
  VirtQueue queue = make();
  ChainBuilder builder(driver());
  for (int i = 0; i < kSize; ++i) builder.writable(1);
  builder.submit_indirect();
  auto chain = queue.take();
  ASSERT_TRUE(chain && *chain);
  EXPECT_EQ((*chain)->writable_size(), kSize);
}

TEST_F(QueueTest, DirectDescriptorsMayPrecedeAnIndirectTable) {
  VirtQueue queue = make();
  const GuestAddress table = driver().allocate(16);
  memory_.write(table, test::FakeDescriptor{driver().allocate(5), 5, kWrite, 0});
  driver().set_descriptor(0, {driver().allocate(7), 7, kNext, 1});
  driver().set_descriptor(1, {table, 16, kIndirect | kWrite, 0});  // 2.7.5.3.2: its write flag is ignored
  driver().push_available(0);
  auto chain = queue.take();
  ASSERT_TRUE(chain && *chain) << refusal(queue);
  EXPECT_EQ((*chain)->readable_size(), 7U);
  EXPECT_EQ((*chain)->writable_size(), 5U);
}

TEST_F(QueueTest, ZeroLengthDescriptorsHoldNothingAndHarmNothing) {  // CVE-2023-5158
  VirtQueue queue = make();
  ChainBuilder(driver())
      .readable_at(~0ULL, 0)
      .readable(bytes("x"))
      .writable_at(0xfee00000, 0)
      .writable(1)
      .submit();
  auto chain = queue.take();
  ASSERT_TRUE(chain && *chain);
  EXPECT_EQ((*chain)->readable_size(), 1U);
  EXPECT_EQ((*chain)->writable_size(), 1U);
}

TEST_F(QueueTest, AChainAsLongAsTheQueueIsTaken) {
  VirtQueue queue = make();
  ChainBuilder builder(driver());
  for (int i = 0; i < kSize; ++i) builder.writable(1);
  builder.submit();
  auto chain = queue.take();
  ASSERT_TRUE(chain && *chain);
  EXPECT_EQ((*chain)->writable().size(), kSize);
}

TEST_F(QueueTest, AllPlacesOfAQueueMayBeAvailableAtOnce) {
  VirtQueue queue = make();
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < kSize; ++i) submit_buffer(driver());
    for (int i = 0; i < kSize; ++i) EXPECT_TRUE(bounce(queue)) << i;
    EXPECT_FALSE(bounce(queue)) << "there are no more";
  }
}

TEST_F(QueueTest, ADescriptorThatChangesAfterItWasTakenChangesNothing) {  // no double fetch
  for (const bool indirect : {false, true}) {
    VirtQueue queue = make();
    const GuestAddress table = driver().allocate(16);
    const test::FakeDescriptor good{driver().allocate(8), 8, kWrite, 0};
    memory_.write(table, good);
    driver().set_descriptor(0, indirect ? test::FakeDescriptor{table, 16, kIndirect, 0} : good);
    driver().push_available(0);
    auto chain = queue.take();
    ASSERT_TRUE(chain && *chain);
    const test::FakeDescriptor changed{~0ULL, 0xffffffff, 0, 0};
    memory_.write(table, changed);
    driver().set_descriptor(0, changed);
    EXPECT_EQ((*chain)->writable_size(), 8U);
    EXPECT_EQ((*chain)->write(0, bytes("12345678")), 8U);
    std::vector<std::byte> written(8);
    memory_.read(good.address, written);
    EXPECT_EQ(written, bytes("12345678"));
  }
}

TEST_F(QueueTest, ADroppedChainGoesBackEmpty) {
  VirtQueue queue = make();
  const std::uint16_t head = ChainBuilder(driver()).writable(8).submit();
  {
    auto chain = queue.take();
  }
  const auto used = driver().pop_used();
  ASSERT_TRUE(used);
  EXPECT_EQ(used->id, head);
  EXPECT_EQ(used->length, 0U);
}

TEST_F(QueueTest, AMovedChainGoesBackOnce) {
  VirtQueue queue = make();
  ChainBuilder(driver()).writable(8).submit();
  {
    auto chain = queue.take();
    Chain moved = std::move(**chain);
    Chain again = std::move(moved);
  }
  EXPECT_EQ(driver().used_index(), 1);
}

TEST_F(QueueTest, AForgottenChainWritesNothing) {
  VirtQueue queue = make();
  ChainBuilder(driver()).writable(8).submit();
  auto chain = queue.take();
  VirtQueue::forget(std::move(**chain));
  EXPECT_EQ(driver().used_index(), 0);
}

TEST_F(QueueTest, IndicesWrapAfter65536Chains) {
  VirtQueue queue = make(true);
  const GuestAddress buffer = driver().allocate(8);
  for (int round = 0; round < 70000; ++round) {
    const std::uint16_t head = ChainBuilder(driver()).writable_at(buffer, 8).submit();
    auto chain = queue.take();
    ASSERT_TRUE(chain && *chain) << round;
    queue.put(std::move(**chain), 8);
    const auto used = driver().pop_used();
    ASSERT_TRUE(used) << round;
    ASSERT_EQ(used->id, head) << round;
  }
}

// Positions, properties

TEST_F(QueueTest, AQueueGoesOnFromItsPosition) {
  VirtQueue queue = make();
  for (int i = 0; i < 3; ++i) {
    ChainBuilder(driver()).writable(8).submit();
    auto chain = queue.take();
  }
  const std::uint16_t head = ChainBuilder(driver()).writable(8).submit();
  auto held = queue.take();
  ASSERT_TRUE(held && *held);
  const QueuePosition position = queue.position();
  EXPECT_EQ(position, (QueuePosition{.next_available = 4, .next_used = 3}));
  VirtQueue::forget(std::move(**held));

  auto restored = VirtQueue::create(memory_, driver().layout());
  ASSERT_TRUE(restored);
  ASSERT_TRUE(restored->set_position(position.rewound()));
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(driver().pop_used());
  {
    auto again = restored->take();
    ASSERT_TRUE(again && *again) << "what was held is taken again";
  }
  EXPECT_EQ(driver().pop_used()->id, head);
  EXPECT_FALSE(restored->set_position({.next_available = 20, .next_used = 3})) << "more out than there are";
  EXPECT_TRUE(restored->set_position({.next_available = 11, .next_used = 3})) << "all are out";
}

TEST_F(QueueTest, RandomGoodChainsComeBackWholeAndInOrder) {
  std::mt19937 random(4);
  const auto any = [&](std::uint32_t below) { return static_cast<std::uint32_t>(random() % below); };
  for (int round = 0; round < 2'000; ++round) {
    VirtQueue queue = make(any(2) != 0);
    const std::uint32_t readable = any(4);
    const std::uint32_t writable = any(4) + (readable == 0 ? 1 : 0);
    ChainBuilder builder(driver());
    std::vector<std::byte> sent;
    for (std::uint32_t i = 0; i < readable; ++i) {
      std::vector<std::byte> part(1 + any(100));
      for (std::byte& byte : part) byte = static_cast<std::byte>(random());
      sent.insert(sent.end(), part.begin(), part.end());
      builder.readable(part);
    }
    std::uint64_t room = 0;
    for (std::uint32_t i = 0; i < writable; ++i) {
      const std::uint32_t size = any(100);
      room += size;
      builder.writable(size);
    }
    const std::uint16_t head = any(2) != 0 ? builder.submit() : builder.submit_indirect();
    auto chain = queue.take();
    ASSERT_TRUE(chain && *chain) << round;
    std::vector<std::byte> got(sent.size());
    ASSERT_EQ((*chain)->read(0, got), sent.size());
    ASSERT_EQ(got, sent) << round;
    ASSERT_EQ((*chain)->writable_size(), room) << round;
    queue.put(std::move(**chain), static_cast<std::uint32_t>(room));
    const auto used = driver().pop_used();
    ASSERT_TRUE(used);
    ASSERT_EQ(used->id, head);
    ASSERT_EQ(used->length, room);
  }
}

// Interrupts and kicks

TEST_F(QueueTest, WithoutEventIdxEachBatchInterruptsUnlessTheDriverForbidsIt) {
  expect_each_batch_interrupts_unless_forbidden();
}

TEST_F(QueueTest, WithEventIdxOnlyPassingUsedEventInterrupts) {
  VirtQueue queue = make(true);
  const auto put_one = [&] {
    ChainBuilder(driver()).writable(8).submit();
    auto chain = queue.take();
  };
  driver().set_used_event(2);  // tell me when the third is used
  put_one();
  EXPECT_FALSE(queue.should_interrupt());
  put_one();
  EXPECT_FALSE(queue.should_interrupt());
  put_one();
  EXPECT_TRUE(queue.should_interrupt());
  put_one();
  EXPECT_FALSE(queue.should_interrupt());
  driver().set_used_event(4);
  put_one();
  put_one();
  EXPECT_TRUE(queue.should_interrupt()) << "passed within a batch";
}

TEST_F(QueueTest, KicksAreDisabledByFlagWithoutEventIdx) {
  VirtQueue queue = make(false);
  queue.disable_kicks();
  EXPECT_EQ(driver().used_flags(), 1);
  EXPECT_FALSE(queue.enable_kicks());
  EXPECT_EQ(driver().used_flags(), 0);
}

TEST_F(QueueTest, EnablingKicksAsksForTheNextChainWithEventIdx) {
  VirtQueue queue = make(true);
  ChainBuilder(driver()).writable(8).submit();
  {
    auto chain = queue.take();
  }
  EXPECT_FALSE(queue.enable_kicks());
  EXPECT_EQ(driver().available_event(), 1);
}

TEST_F(QueueTest, EnablingKicksTellsOfAChainThatCameMeanwhile) {
  expect_enabling_kicks_tells_of_a_chain_that_came_meanwhile();
}

TEST_F(QueueTest, ADriverOnAnotherThreadGetsEveryChainBackInOrder) {
  VirtQueue queue = make(true);
  const GuestAddress buffer = driver().allocate(8);
  pass_chains_between_threads(
      queue, kSize, [&](std::uint32_t) { ChainBuilder(driver()).writable_at(buffer, 8).submit(); },
      [](const test::UsedElement&, std::uint32_t) {});
}

}  // namespace
}  // namespace balloon::vmm
