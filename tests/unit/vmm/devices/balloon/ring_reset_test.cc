// SPDX-License-Identifier: Apache-2.0
// RING_RESET (virtio 1.2, 2.6.1): the driver takes single queues of the balloon back.
#include <gmock/gmock.h>

#include <chrono>
#include <future>

#include "tests/unit/vmm/devices/balloon/balloon_fixture.h"

namespace balloon::vmm::test {
namespace {

using ::testing::HasSubstr;

/// What was answered to a wish; an error when nothing was.
template <typename Value>
Result<Value> answer_of(std::future<Result<Value>> answer) {
  if (answer.wait_for(std::chrono::seconds(10)) != std::future_status::ready) return fail("not answered");
  return answer.get();
}

TEST_F(BalloonTest, AnInflateQueueThatComesAgainInflates) {
  start();
  touch(kVictim, 2);
  ASSERT_TRUE(send(kInflate, {kVictim}));
  driver_->reset_queue(kInflate);
  EXPECT_FALSE(balloon_->state().driver_ready);
  driver_->restart_queue(kInflate);
  EXPECT_TRUE(balloon_->state().driver_ready);
  ASSERT_TRUE(send(kInflate, {kVictim + 1}));
  EXPECT_EQ(resident(kVictim, 2), 0U);
}

TEST_F(BalloonTest, TheParkedStatisticsBufferIsForgottenWithItsQueue) {
  start();
  send_stats(1);  // parked
  driver_->reset_queue(kStats);
  std::promise<Result<BalloonStats>> told;
  balloon_->request_stats([&](Result<BalloonStats> stats) { told.set_value(std::move(stats)); });
  const auto answer = answer_of(told.get_future());
  ASSERT_FALSE(answer);
  EXPECT_THAT(answer.error().message, HasSubstr("no balloon driver with statistics"));
  EXPECT_EQ(queue(kStats).used_index(), 0) << "its rings are the driver's";

  driver_->restart_queue(kStats);
  send_stats(2);  // the new first one
  balloon_->set_stats_interval(std::chrono::milliseconds(10));
  ASSERT_TRUE(wait_stats_request());
  send_stats(3);
  ASSERT_TRUE(eventually([&] { return !samples().empty(); }));
  EXPECT_EQ(samples()[0].values[static_cast<std::size_t>(StatTag::free_memory)], 3U);
}

TEST_F(BalloonTest, WhoWaitsForStatisticsIsToldThatTheQueueWent) {
  start();
  std::promise<Result<BalloonStats>> told;
  balloon_->request_stats([&](Result<BalloonStats> stats) { told.set_value(std::move(stats)); });
  driver_->reset_queue(kStats);
  const auto answer = answer_of(told.get_future());
  ASSERT_FALSE(answer);
  EXPECT_THAT(answer.error().message, HasSubstr("took its statistics queue back"));
}

TEST_F(BalloonTest, ARoundOfHintingEndsWithItsQueue) {
  start({.free_page_hinting = true});
  std::promise<Result<Bytes>> told;
  balloon_->drop_free_pages([&](Result<Bytes> outcome) { told.set_value(std::move(outcome)); });
  constexpr std::uint16_t kHinting = 3;
  driver_->reset_queue(kHinting);
  const auto dropped = answer_of(told.get_future());
  ASSERT_FALSE(dropped);
  EXPECT_THAT(dropped.error().message, HasSubstr("took its hinting queue back"));
  driver_->restart_queue(kHinting);
  EXPECT_TRUE(balloon_->state().free_page_hinting);
}

}  // namespace
}  // namespace balloon::vmm::test
