// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/balloon/hinting.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <thread>

#include "tests/unit/vmm/devices/balloon/balloon_fixture.h"

namespace balloon::vmm {
namespace {

using namespace test;
using ::testing::HasSubstr;

constexpr std::uint16_t kHinting = 3;
constexpr std::uint16_t kReportingBehindHinting = 4;
/// 8 MiB in whole huge pages.
constexpr std::uint32_t kFreePages = 2048;
constexpr BalloonConfig kConfig{.free_page_hinting = true};

TEST(HintingRounds, EachHasAnIdOfItsOwnThatIsNeitherStopNorDone) {
  HintingRounds rounds;
  EXPECT_EQ(rounds.command(), HintingRounds::kStop);
  std::uint32_t last = 1;
  for (int round = 0; round < 5; ++round) {
    rounds.start();
    EXPECT_EQ(rounds.command(), last + 1);
    last = rounds.command();
    rounds.finish();
    EXPECT_EQ(rounds.command(), HintingRounds::kDone);
  }
}

TEST(HintingRounds, BuffersBelongToTheRoundBetweenItsIdAndStop) {
  HintingRounds rounds;
  EXPECT_FALSE(rounds.received(HintingRounds::kStop) || rounds.takes_hints());
  rounds.start();
  EXPECT_FALSE(rounds.takes_hints()) << "what comes now is of the round before";
  EXPECT_FALSE(rounds.received(HintingRounds::kStop)) << "so is this end";
  EXPECT_FALSE(rounds.received(77) || rounds.takes_hints());
  EXPECT_FALSE(rounds.received(rounds.command()));
  EXPECT_TRUE(rounds.takes_hints());
  EXPECT_TRUE(rounds.received(HintingRounds::kStop));
  rounds.finish();
  EXPECT_FALSE(rounds.takes_hints());
}

class HintingTest : public BalloonTest {
 protected:
  ~HintingTest() override { driver_.reset(); }  // which still answers what was asked

  /// Starts a round; the command that the driver reads.
  std::uint32_t ask() {
    outcome_.reset();
    balloon_->drop_free_pages([this](Result<Bytes> outcome) { outcome_ = std::move(outcome); });
    return driver_->read_config<std::uint32_t>(kFreePageHint);
  }
  void send_id(std::uint32_t id) {
    ChainBuilder(queue(kHinting)).readable(std::as_bytes(std::span(&id, 1))).submit();
    ASSERT_TRUE(driver_->kick_and_wait(kHinting));
  }
  void hint(std::uint32_t pfn, std::uint32_t pages) {
    ChainBuilder(queue(kHinting))
        .writable_at(pfn * kPageSize, static_cast<std::uint32_t>(pages * kPageSize))
        .submit();
    const auto used = driver_->kick_and_wait(kHinting);
    ASSERT_TRUE(used);
    EXPECT_EQ(used->length, 0U);
  }
  std::string error() const { return outcome_ && !*outcome_ ? outcome_->error().message : "no error"; }

  std::optional<Result<Bytes>> outcome_;
};

TEST_F(HintingTest, IsOfferedOnlyWhenSwitchedOnAndItsQueueComesBeforeReporting) {
  make();
  EXPECT_EQ(balloon_->offered_features() & Balloon::kFeatureHinting, 0U);
  driver_.reset();
  start(kConfig);
  EXPECT_EQ(balloon_->offered_features() & Balloon::kFeatureHinting, 1U << 3);
  EXPECT_EQ(balloon_->queue_sizes().size(), 5U);
  EXPECT_TRUE(balloon_->state().free_page_hinting);
  touch(kVictim, 512);
  ChainBuilder(queue(kReportingBehindHinting)).writable_at(kVictims, kHugePageSize).submit();
  ASSERT_TRUE(driver_->kick_and_wait(kReportingBehindHinting));
  EXPECT_EQ(balloon_->counters().reported, Bytes{kHugePageSize});
}

TEST_F(HintingTest, WithoutReportingItsQueueIsTheLast) {
  start({.free_page_reporting = false, .free_page_hinting = true});
  EXPECT_EQ(balloon_->queue_sizes().size(), 4U);
  touch(kVictim, 512);
  send_id(ask());
  hint(kVictim, 512);
  EXPECT_EQ(resident(kVictim, 512), 0U);
}

TEST_F(HintingTest, ARoundReleasesTheHintedPagesAndEndsWithDone) {
  start(kConfig);
  touch(kVictim, kFreePages + 512);
  const std::uint32_t command = ask();
  EXPECT_GE(command, 2U);
  EXPECT_EQ(driver_->host().config_interrupts(), 1);
  send_id(command);
  hint(kVictim, kFreePages / 2);
  hint(kVictim + kFreePages / 2, kFreePages / 2);
  EXPECT_EQ(resident(kVictim, kFreePages), 0U);
  EXPECT_EQ(resident(kVictim + kFreePages, 512), 512U) << "was not hinted";
  EXPECT_FALSE(outcome_);
  send_id(HintingRounds::kStop);
  ASSERT_TRUE(outcome_ && *outcome_) << error();
  EXPECT_EQ(**outcome_, kFreePages * balloon::kPageSize);
  EXPECT_EQ(driver_->read_config<std::uint32_t>(kFreePageHint), HintingRounds::kDone);
  EXPECT_EQ(driver_->host().config_interrupts(), 2) << "the guest may have its pages back";
  EXPECT_EQ(balloon_->counters().hinted, kFreePages * balloon::kPageSize);
  EXPECT_EQ(balloon_->counters().freed, kFreePages * balloon::kPageSize);
  touch(kVictim, kFreePages);
  EXPECT_TRUE(is_patterned(kVictim)) << "and use them";
}

TEST_F(HintingTest, APageThatIsInUseAgainIsKept) {  // the race of free page hinting
  start(kConfig);
  touch(kVictim, kFreePages);
  send_id(ask());
  std::memset(memory_.at(kVictims + kHugePageSize, kPageSize)->data(), 0x77, kPageSize);
  hint(kVictim, kFreePages);
  EXPECT_EQ(memory_.read<std::uint8_t>(kVictims + kHugePageSize), 0x77);
  EXPECT_EQ(memory_.read<std::uint8_t>(kVictims + kHugePageSize + kPageSize - 1), 0x77);
  EXPECT_EQ(resident(kVictim, 512), 0U);
  EXPECT_EQ(resident(kVictim + 1024, 1024), 0U) << "others are free";
}

TEST_F(HintingTest, PagesThatTheGuestClearedWhenItTookThemAreReleased) {  // init_on_alloc, Debian's default
  start(kConfig);
  touch(kVictim, kFreePages);
  send_id(ask());
  std::memset(memory_.at(kVictims, kFreePages * kPageSize)->data(), 0, kFreePages * kPageSize);
  hint(kVictim, kFreePages);
  EXPECT_EQ(resident(kVictim, kFreePages), 0U);
}

TEST_F(HintingTest, NoWriteIsLostHoweverItMeetsTheRelease) {
  start(kConfig);
  touch(kVictim, kFreePages);
  send_id(ask());
  std::vector<std::uint64_t> written(kFreePages, 0);
  std::atomic<bool> stop = false;
  std::thread guest([&] {
    for (std::uint64_t value = 1; !stop; ++value) {
      const std::uint64_t page = value * 7919 % kFreePages;
      const GuestAddress at = kVictims + page * kPageSize + 8;
      if (written[page] != 0) {
        EXPECT_EQ(memory_.read<std::uint64_t>(at), written[page]) << page;
      }
      memory_.write(at, value);
      written[page] = value;
    }
  });
  for (int i = 0; i < 20; ++i) hint(kVictim, kFreePages);
  stop = true;
  guest.join();
  for (std::uint64_t page = 0; page < kFreePages; ++page) {
    if (written[page] == 0) continue;
    ASSERT_EQ(memory_.read<std::uint64_t>(kVictims + page * kPageSize + 8), written[page]) << page;
  }
}

TEST_F(HintingTest, HintsOutsideTheirRoundReleaseNothing) {
  start(kConfig);
  touch(kVictim, 512);
  hint(kVictim, 512);
  const std::uint32_t command = ask();
  hint(kVictim, 512);
  send_id(command + 1);
  hint(kVictim, 512);
  send_id(HintingRounds::kStop);
  EXPECT_FALSE(outcome_) << "the end of an earlier round";
  EXPECT_TRUE(is_patterned(kVictim));
  send_id(command);
  send_id(HintingRounds::kStop);
  ASSERT_TRUE(outcome_ && *outcome_);
  EXPECT_EQ(**outcome_, Bytes{0});
  hint(kVictim, 512);
  EXPECT_TRUE(is_patterned(kVictim)) << "the guest has it back";
}

TEST_F(HintingTest, PagesOfAGuestThatPoisonsThemAreKept) {
  start(kConfig);
  driver_->write_config<std::uint32_t>(kPoison, 0xaaaaaaaa);
  touch(kVictim, 512);
  send_id(ask());
  hint(kVictim, 512);
  EXPECT_TRUE(is_patterned(kVictim));
  EXPECT_EQ(balloon_->counters().reports_kept, 1U);
}

TEST_F(HintingTest, OnlyWholePagesOfAMisalignedHintAreReleased) {
  start(kConfig);
  touch(kVictim, 512);
  send_id(ask());
  ChainBuilder(queue(kHinting)).writable_at(kVictims + 100, 3 * kPageSize).submit();
  ASSERT_TRUE(driver_->kick_and_wait(kHinting));
  EXPECT_TRUE(is_patterned(kVictim) && is_patterned(kVictim + 3));
  EXPECT_TRUE(is_zero(kVictim + 1) && is_zero(kVictim + 2));
}

TEST_F(HintingTest, WhyThereIsNoRoundIsSaid) {
  make();
  ask();
  EXPECT_THAT(error(), HasSubstr("off for this guest"));
  driver_.reset();
  make(kConfig);
  ask();
  EXPECT_THAT(error(), HasSubstr("no balloon driver"));
  driver_->start(~Balloon::kFeatureHinting);
  ask();
  EXPECT_THAT(error(), HasSubstr("no balloon driver with free page hinting"));
  driver_->reset();
  driver_->start();
  ask();
  ask();
  EXPECT_THAT(error(), HasSubstr("already"));
}

TEST_F(HintingTest, AResetEndsTheRound) {
  start(kConfig);
  touch(kVictim, 512);
  send_id(ask());
  driver_->reset();
  EXPECT_THAT(error(), HasSubstr("went away"));
  EXPECT_EQ(driver_->read_config<std::uint32_t>(kFreePageHint), HintingRounds::kStop);
  driver_->start();
  send_id(ask());
  hint(kVictim, 512);
  EXPECT_TRUE(is_zero(kVictim)) << "the next driver's round works";
}

TEST_F(HintingTest, AShortOrMixedBufferHarmsNothing) {
  start(kConfig);
  touch(kVictim, 512);
  const std::uint32_t command = ask();
  const std::byte half[2]{};
  ChainBuilder(queue(kHinting)).readable(half).submit();
  ASSERT_TRUE(driver_->kick_and_wait(kHinting));
  EXPECT_FALSE(outcome_);
  ChainBuilder(queue(kHinting))
      .readable(std::as_bytes(std::span(&command, 1)))
      .writable_at(kVictims, kHugePageSize)
      .submit();
  ASSERT_TRUE(driver_->kick_and_wait(kHinting));
  EXPECT_TRUE(is_zero(kVictim)) << "the id comes first";
}

TEST_F(HintingTest, PagesInflatedDuringARoundAreReleasedAndNobodyWaits) {  // Firecracker #4988
  start(kConfig);
  touch(kVictim, kFreePages);
  send_id(ask());
  std::vector<std::uint32_t> pfns(256);
  for (std::uint32_t i = 0; i < pfns.size(); ++i) pfns[i] = kVictim + i;
  ASSERT_TRUE(send(kInflate, pfns));
  hint(kVictim, 512);  // the half that the balloon has, and more
  ASSERT_TRUE(send(kInflate, {kVictim + 600}));
  EXPECT_EQ(resident(kVictim, 512), 0U);
  EXPECT_EQ(resident(kVictim + 600, 1), 0U);
  ASSERT_TRUE(send(kDeflate, pfns));
  touch(kVictim, 256);
  send_id(HintingRounds::kStop);
  ASSERT_TRUE(eventually([&] { return outcome_.has_value(); }));
  EXPECT_TRUE(*outcome_) << error();
  for (std::uint32_t i = 0; i < 256; ++i) ASSERT_TRUE(is_patterned(kVictim + i)) << i;
  EXPECT_TRUE(is_patterned(kVictim + 601));
}

}  // namespace
}  // namespace balloon::vmm
