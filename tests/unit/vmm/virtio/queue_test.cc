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
  for (const GuestAddress address : {memory_.size() - 16, memory_.size(), ~GuestAddress{15}}) {
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

TEST_F(QueueTest, AnEmptyQueueGivesNothing) {
  VirtQueue queue = make();
  const auto taken = queue.take();
  ASSERT_TRUE(taken);
  EXPECT_FALSE(*taken);
}

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

// Broken chains: each is refused with its reason, none reads or writes outside RAM, loops or crashes.

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
  for (const std::uint64_t address :
       {memory_.size(), memory_.size() - 7, GuestAddress{0xfee00000}, ~GuestAddress{3}, ~GuestAddress{0}}) {
    VirtQueue queue = make();
    ChainBuilder(driver()).writable_at(address, 8).submit();
    EXPECT_THAT(refusal(queue), HasSubstr("not in guest RAM")) << address;
  }
}

TEST_F(QueueTest, RefusesABufferOfFourGigabytesFromTheLastByteOfRam) {
  VirtQueue queue = make();
  ChainBuilder(driver()).writable_at(memory_.size() - 1, 0xffffffff).submit();
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
  ChainBuilder(driver).writable_at(3 * kGiB - 4096, 0x40002000).submit();
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
  driver().set_descriptor(0, {memory_.size() - 16, 32, kIndirect, 0});
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
  ChainBuilder(driver()).writable_at(memory_.size(), 8).submit();
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

// Interrupts and kicks

TEST_F(QueueTest, WithoutEventIdxEachBatchInterruptsUnlessTheDriverForbidsIt) {
  VirtQueue queue = make(false);
  EXPECT_FALSE(queue.should_interrupt()) << "nothing was put";
  ChainBuilder(driver()).writable(8).submit();
  {
    auto chain = queue.take();
  }
  EXPECT_TRUE(queue.should_interrupt());
  EXPECT_FALSE(queue.should_interrupt()) << "nothing new";
  driver().set_available_flags(1);
  ChainBuilder(driver()).writable(8).submit();
  {
    auto chain = queue.take();
  }
  EXPECT_FALSE(queue.should_interrupt());
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
  for (const bool event_idx : {false, true}) {
    VirtQueue queue = make(event_idx);
    queue.disable_kicks();
    ChainBuilder(driver()).writable(8).submit();
    EXPECT_TRUE(queue.enable_kicks());
  }
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
