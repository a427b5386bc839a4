// SPDX-License-Identifier: Apache-2.0
// The costliest lists of pages that a guest may give, many at once.
#include <gtest/gtest.h>

#include <chrono>
#include <optional>
#include <thread>

#include "tests/unit/vmm/address_literals.h"
#include "tests/unit/vmm/devices/balloon/balloon_fixture.h"
#include "tests/unit/vmm/manual_clock.h"

namespace balloon::vmm {
namespace {

using namespace test;

/// A guest of 1 GiB whose chains all point to one list of pages.
class GreedyBalloon : public BalloonTest {
 protected:
  GreedyBalloon() : BalloonTest(make_memory(1 * kGiB)) {}
  static constexpr GuestAddress kList = 32_MiB;
  static constexpr int kChains = 8;
  /// Every `stride`th page of the upper 896 MiB, in each of the chains.
  std::uint32_t ask(std::uint16_t index, std::uint32_t stride) {
    std::uint32_t count = 0;
    for (std::uint32_t pfn = 128_MiB / kPageSize; pfn < 1_GiB / kPageSize; pfn += stride)
      memory_.write<std::uint32_t>(kList + 4ULL * count++, pfn);
    for (int i = 0; i < kChains; ++i) ChainBuilder(queue(index)).readable_at(kList, 4 * count).submit();
    return count;
  }
  /// How long a turn holds the mutex.
  std::chrono::milliseconds turn(std::uint16_t index) {
    const auto start = std::chrono::steady_clock::now();
    driver_->kick(index);
    return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - start);
  }
  bool all_answered(std::uint16_t index) {
    return eventually([&] { return queue(index).used_index() == kChains; });
  }
};

TEST_F(GreedyBalloon, ScatteredPagesWithoutEndAreReleasedInShortTurnsAndNoneIsForgotten) {
  start();
  const std::uint32_t count = ask(kInflate, 2);
  EXPECT_LT(turn(kInflate).count(), 100);
  EXPECT_EQ(queue(kInflate).used_index(), 0) << "it is still under way";
  EXPECT_TRUE(balloon_->set_target(512 * kMiB));
  ASSERT_TRUE(all_answered(kInflate));
  EXPECT_EQ(balloon_->counters().inflated, kChains * count * balloon::kPageSize);
}

TEST_F(GreedyBalloon, ThoseThatAreHeldBackAreReleasedInShortTurnsLikewise) {
  start({}, kGather);
  const std::uint32_t count = ask(kInflate, 2);
  EXPECT_LT(turn(kInflate).count(), 100);
  ASSERT_TRUE(all_answered(kInflate));
  driver_->write_config<std::uint32_t>(kActual, count);
  EXPECT_TRUE(eventually([&] { return balloon_->state().actual == kGiB - count * balloon::kPageSize; }))
      << "nothing is held in the end";
}

TEST_F(GreedyBalloon, HugePagesAreMadeWholeAgainInShortTurns) {
  start();
  ask(kInflate, 512);
  driver_->kick(kInflate);
  ASSERT_TRUE(all_answered(kInflate));
  touch(128_MiB / kPageSize, 64_MiB / kPageSize);
  ask(kDeflate, 512);
  EXPECT_LT(turn(kDeflate).count(), 100);
  EXPECT_TRUE(all_answered(kDeflate));
}

TEST_F(GreedyBalloon, HintsOfAllMemoryManyTimesOverAreWorkedOffInShortTurns) {
  constexpr std::uint16_t kHinting = 3;
  start({.free_page_hinting = true});
  std::optional<Result<Bytes>> outcome;
  balloon_->drop_free_pages([&](Result<Bytes> dropped) { outcome = std::move(dropped); });
  const auto id = driver_->read_config<std::uint32_t>(kFreePageHint);
  ASSERT_GT(id, 1U);
  ChainBuilder(queue(kHinting)).readable(std::as_bytes(std::span(&id, 1))).submit();
  ASSERT_TRUE(driver_->kick_and_wait(kHinting));
  touch(128_MiB / kPageSize, 128_MiB / kPageSize);
  for (int i = 0; i < kChains - 1; ++i) ChainBuilder(queue(kHinting)).writable_at(128_MiB, 896_MiB).submit();
  EXPECT_LT(turn(kHinting).count(), 100);
  EXPECT_LT(queue(kHinting).used_index(), kChains) << "it is still under way";
  EXPECT_TRUE(all_answered(kHinting));
  driver_->reset();  // which answers what was asked
  EXPECT_TRUE(outcome.has_value());
}

TEST_F(GreedyBalloon, AResetForgetsAChainThatIsUnderWay) {
  start();
  ask(kInflate, 2);
  turn(kInflate);
  driver_->reset();
  const Bytes inflated = balloon_->counters().inflated;
  catch_up(*loop_);
  EXPECT_EQ(balloon_->counters().inflated, inflated);
  EXPECT_EQ(queue(kInflate).used_index(), 0);
  driver_->start(kAtOnce);
  EXPECT_EQ(send(kInflate, {kVictim}), 0U) << "a new driver's first chain is not taken for the old one";
  EXPECT_EQ(balloon_->counters().inflated, inflated + balloon::kPageSize);
}

}  // namespace
}  // namespace balloon::vmm
