// SPDX-License-Identifier: Apache-2.0
#include "balloond/api/connections.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <vector>

#include "base/unique_fd.h"
#include "tests/unit/balloond/fakes.h"

namespace balloon::daemon {
namespace {

using Verdict = Connections::Verdict;

constexpr Caller kVmm{.peer = {.pid = 42, .uid = 1000}, .started = 7};
constexpr Caller kOther{.peer = {.pid = 43, .uid = 1000}, .started = 8};
constexpr Caller kOperator{.peer = {.pid = 44, .uid = 1001}, .started = 9, .roles = Roles::of(Role::operate)};

class ConnectionsTest : public ::testing::Test {
 protected:
  struct Pair {
    UniqueFd server;
    UniqueFd client;
  };
  /// The server's end of a connection of `caller`.
  int connect(const Caller& caller) {
    std::array<int, 2> ends{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends.data()), 0);
    pairs_.push_back({UniqueFd(ends[0]), UniqueFd(ends[1])});
    connections_.add(ends[0], caller);
    return ends[0];
  }
  /// What a client sees of its connection: false once the server has ended it.
  bool is_up(int server) const {
    for (const Pair& pair : pairs_) {
      char byte = 0;
      if (pair.server.get() == server) return ::read(pair.client.get(), &byte, 1) != 0;
    }
    return false;
  }
  void close(int server) {
    std::erase_if(pairs_, [&](const Pair& pair) { return pair.server.get() == server; });
  }

  test::FakeClock clock_;
  Connections connections_{clock_, {.places = 10, .for_operators = 2, .each_process = 3, .each_user = 5}};
  std::vector<Pair> pairs_;
};

TEST_F(ConnectionsTest, AProcessHasABoundedNumberWithoutAGuest) {
  for (int i = 0; i < 3; ++i) connect(kVmm);
  EXPECT_EQ(connections_.judge(kVmm), Verdict::process_has_too_many);
  EXPECT_EQ(connections_.judge(kOther), Verdict::admitted);
}

TEST_F(ConnectionsTest, AReusedProcessNumberIsAnotherProcess) {
  for (int i = 0; i < 3; ++i) connect(kVmm);
  Caller later = kVmm;
  later.started = 700;
  EXPECT_EQ(connections_.judge(later), Verdict::admitted);
}

TEST_F(ConnectionsTest, AConnectionThatCarriesAGuestCountsAsThatGuest) {
  const int first = connect(kVmm);
  for (int i = 0; i < 2; ++i) connect(kVmm);
  connections_.guest_joined(first);
  EXPECT_EQ(connections_.judge(kVmm), Verdict::admitted);
  connections_.guest_left(first);
  EXPECT_EQ(connections_.judge(kVmm), Verdict::process_has_too_many) << "its guest has left";
}

TEST_F(ConnectionsTest, AClosedConnectionGivesItsPlaceBack) {
  const int first = connect(kVmm);
  for (int i = 0; i < 2; ++i) connect(kVmm);
  connections_.called(first);
  close(first);
  clock_.advance(std::chrono::seconds(1));
  EXPECT_EQ(connections_.judge(kVmm), Verdict::admitted);
  EXPECT_EQ(connections_.size(), 2U);
}

TEST_F(ConnectionsTest, AUserHasABoundedNumberWithoutAGuest) {
  for (int i = 0; i < 5; ++i) {
    Caller each = kVmm;
    each.peer.pid += i;
    EXPECT_EQ(connections_.judge(each), Verdict::admitted);
    connect(each);
  }
  EXPECT_EQ(connections_.judge({.peer = {.pid = 99, .uid = kVmm.peer.uid}}), Verdict::user_has_too_many);
  EXPECT_EQ(connections_.judge({.peer = {.pid = 99, .uid = 1002}}), Verdict::admitted) << "another user";
}

TEST_F(ConnectionsTest, ToConnectAgainAndAgainGainsNoPlaces) {
  for (int i = 0; i < 3; ++i) close(connect(kVmm));
  clock_.advance(std::chrono::seconds(9));
  EXPECT_EQ(connections_.judge(kVmm), Verdict::process_has_too_many);
  clock_.advance(std::chrono::seconds(1));
  EXPECT_EQ(connections_.judge(kVmm), Verdict::admitted);
}

TEST_F(ConnectionsTest, AClosedConnectionWhoseNumberComesAgainIsCountedUntilItsTime) {
  const int number = connect(kVmm);
  close(number);
  ASSERT_EQ(connect(kVmm), number);
  EXPECT_EQ(connections_.judge(kVmm), Verdict::admitted) << "two of three";
  connect(kVmm);
  EXPECT_EQ(connections_.judge(kVmm), Verdict::process_has_too_many);
}

TEST_F(ConnectionsTest, ANumberThatIsAnotherFilesNowIsNotThatConnection) {
  const int number = connect(kVmm);
  close(number);
  const UniqueFd other(::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, number));
  ASSERT_EQ(other.get(), number);
  connections_.sweep();
  EXPECT_EQ(connections_.size(), 0U);
}

TEST_F(ConnectionsTest, OperatorsHavePlacesWhenOthersHaveNone) {
  for (int i = 0; i < 8; ++i) connections_.guest_joined(connect(kVmm));
  EXPECT_EQ(connections_.judge(kOther), Verdict::all_taken);
  EXPECT_EQ(connections_.judge(kOperator), Verdict::admitted);
  for (int i = 0; i < 2; ++i) connect(kOperator);
  EXPECT_EQ(connections_.judge(kOperator), Verdict::all_taken);
}

TEST_F(ConnectionsTest, OneThatCallsNothingEndsAfterTenSeconds) {
  const int silent = connect(kVmm);
  const int busy = connect(kVmm);
  connections_.called(busy);
  clock_.advance(std::chrono::seconds(9));
  connections_.sweep();
  EXPECT_TRUE(is_up(silent));
  clock_.advance(std::chrono::seconds(1));
  connections_.sweep();
  EXPECT_FALSE(is_up(silent));
  EXPECT_TRUE(is_up(busy));
}

TEST_F(ConnectionsTest, AllEndAtOnceWhenTheyAreToldTo) {
  const int first = connect(kVmm);
  const int second = connect(kOther);
  connections_.guest_joined(second);
  connections_.end_all();
  EXPECT_FALSE(is_up(first));
  EXPECT_FALSE(is_up(second));
}

TEST_F(ConnectionsTest, ACallerIsKnownByTheKernelsWord) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
  const UniqueFd one(ends[0]);
  const UniqueFd two(ends[1]);
  const Caller caller = Caller::of(peer_at(one.get()));
  EXPECT_EQ(caller.peer.pid, ::getpid());
  EXPECT_EQ(caller.peer.uid, ::geteuid());
  EXPECT_GT(caller.started, 0U);
  EXPECT_EQ(caller.roles, Roles::none()) << "until access has judged it";
}

}  // namespace
}  // namespace balloon::daemon
