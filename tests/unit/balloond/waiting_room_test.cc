// SPDX-License-Identifier: Apache-2.0
#include "balloond/api/waiting_room.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "tests/unit/balloond/fakes.h"

namespace balloon::daemon {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using Verdict = Connections::Verdict;

class WaitingRoomTest : public ::testing::Test {
 protected:
  static Caller process(pid_t pid, uid_t uid = 1000) { return {.peer = {.pid = pid, .uid = uid}}; }
  bool enter(const Caller& caller) {
    UniqueFd connection(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    return room_.enter(connection, caller);
  }
  /// Processes of those that leave with this verdict.
  std::vector<pid_t> leave(Verdict with) {
    std::vector<pid_t> left;
    room_.look(connections_, [&](UniqueFd, const Caller& caller, Verdict verdict) {
      if (verdict == with) left.push_back(caller.peer.pid);
    });
    return left;
  }

  test::FakeClock clock_;
  Connections connections_{clock_, {.places = 10, .for_operators = 2, .each_process = 1}};
  WaitingRoom room_{clock_, 8};
};

TEST_F(WaitingRoomTest, WhoHasAPlaceByNowLeavesInTheOrderOfComing) {
  for (const pid_t pid : {3, 1, 2}) EXPECT_TRUE(enter(process(pid)));
  connections_.add(-1, process(1));
  EXPECT_THAT(leave(Verdict::admitted), ElementsAre(3, 2));
  EXPECT_EQ(room_.size(), 1U);
}

TEST_F(WaitingRoomTest, WhoHasWaitedForTooLongLeavesWithTheReason) {
  EXPECT_TRUE(enter(process(1)));
  connections_.add(-1, process(1));
  clock_.advance(WaitingRoom::kWaitMax - std::chrono::seconds(1));
  EXPECT_THAT(leave(Verdict::process_has_too_many), IsEmpty());
  clock_.advance(std::chrono::seconds(1));
  EXPECT_THAT(leave(Verdict::process_has_too_many), ElementsAre(1));
  EXPECT_TRUE(room_.empty());
}

TEST_F(WaitingRoomTest, AProcessHasAQuarterOfItAndAUserHalf) {
  EXPECT_TRUE(enter(process(1)));
  EXPECT_TRUE(enter(process(1)));
  EXPECT_FALSE(enter(process(1)));
  EXPECT_TRUE(enter(process(2)));
  EXPECT_TRUE(enter(process(3)));
  EXPECT_FALSE(enter(process(4))) << "all of one user";
  EXPECT_TRUE(enter(process(5, 1001)));
}

TEST_F(WaitingRoomTest, WhoDoesNotGetInKeepsItsConnection) {
  for (uid_t user = 0; user < 8; ++user) EXPECT_TRUE(enter(process(1, user)));
  UniqueFd connection(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  EXPECT_FALSE(room_.enter(connection, process(1, 9)));
  EXPECT_TRUE(connection);
}

}  // namespace
}  // namespace balloon::daemon
