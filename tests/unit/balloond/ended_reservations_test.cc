// SPDX-License-Identifier: Apache-2.0
#include "balloond/control/ended_reservations.h"

#include <gtest/gtest.h>

#include "balloond/control/token.h"

namespace balloon::daemon {
namespace {

using namespace std::chrono_literals;

EndedReservation ended(const std::string& id, bool granted, Time at, const std::string& token = "") {
  EndedReservation out;
  out.outcome.record.wish.id = id;
  out.outcome.record.token = token;
  if (granted) out.outcome.record.state = policy::GrantState::granted;
  out.at = at;
  return out;
}

EndedReservation grant_of(uid_t uid, const std::string& request_id) {
  EndedReservation out = ended("web", /*granted=*/true, 0s, request_id);
  out.outcome.record.wish.uid = uid;
  out.outcome.record.wish.request_id = request_id;
  return out;
}

TEST(EndedReservationsTest, OfOneIdTheNewestIsFoundWhateverItCameTo) {
  EndedReservations all;
  EXPECT_EQ(all.find("web"), nullptr);
  all.add(ended("web", false, 1s));
  EXPECT_EQ(all.find("web")->at, 1s);
  EXPECT_EQ(all.find("db"), nullptr);
  all.add(ended("web", true, 2s));
  EXPECT_EQ(all.find("web")->at, 2s);
  all.add(ended("web", false, 2s));
  EXPECT_TRUE(all.find("web")->outcome.record.is_granted()) << "of the same moment it is the grant";
  all.add(ended("web", false, 3s));
  EXPECT_EQ(all.find("web")->at, 3s);
  all.add(ended("db", true, 4s));
  EXPECT_EQ(all.find("db")->at, 4s);
}

TEST(EndedReservationsTest, OneIsFoundByItsToken) {
  EndedReservations all;
  all.add(ended("web", true, 1s, "one"));
  all.add(ended("web", false, 2s, "two"));
  all.add(ended("web", true, 3s, "three"));
  EXPECT_EQ(all.find("web", "one")->at, 1s);
  EXPECT_EQ(all.find("web", "two")->at, 2s);
  EXPECT_EQ(all.find("web", "four"), nullptr);
  EXPECT_EQ(all.find("db", "one"), nullptr);
}

TEST(EndedReservationsTest, AGrantIsFoundByItsRequestAndItsUser) {
  EndedReservations all;
  all.add(grant_of(1000, "a"));
  all.add(grant_of(1001, "b"));
  all.add(grant_of(1000, ""));
  ASSERT_NE(all.grant_of(1000, "a"), nullptr);
  EXPECT_EQ(all.grant_of(1000, "b"), nullptr);
  EXPECT_EQ(all.grant_of(1001, "a"), nullptr);
  ASSERT_EQ(all.to_keep().size(), 2U) << "who gave no name to a request cannot ask for it again";
  EXPECT_EQ(all.to_keep().front().outcome.record.wish.request_id, "a");
}

TEST(EndedReservationsTest, AThousandOfEachKindAreKnownAndRefusalsPushOutNoGrant) {
  EndedReservations all;
  for (const bool granted : {true, false}) {
    for (int i = 0; i < 1000; ++i) all.add(ended(std::to_string(i) + (granted ? "g" : "r"), granted, 0s));
  }
  EXPECT_NE(all.find("0g"), nullptr);
  EXPECT_NE(all.find("0r"), nullptr);
  all.add(ended("more", false, 0s));
  EXPECT_NE(all.find("0g"), nullptr);
  EXPECT_EQ(all.find("0r"), nullptr);
  EXPECT_NE(all.find("1r"), nullptr);
}

TEST(EndedReservationsTest, EachIsKnownForAnHour) {
  EndedReservations all;
  for (const bool granted : {true, false}) {
    all.add(ended(granted ? "g1" : "r1", granted, 10s));
    all.add(ended(granted ? "g2" : "r2", granted, 11s));
  }
  all.forget(1h + 10s);
  for (const char* id : {"g1", "r1", "g2", "r2"}) EXPECT_NE(all.find(id), nullptr) << id;
  all.forget(1h + 10s + 1ns);
  for (const char* id : {"g1", "r1"}) EXPECT_EQ(all.find(id), nullptr) << id;
  for (const char* id : {"g2", "r2"}) EXPECT_NE(all.find(id), nullptr) << id;
}

TEST(TokenTest, ATokenIsLongNewEachTimeAndTheSameAsItselfOnly) {
  const std::string token = new_token();
  EXPECT_EQ(token.size(), 32U);
  EXPECT_NE(token, new_token());
  EXPECT_TRUE(same_token(token, token));
  EXPECT_FALSE(same_token(token, token.substr(1)));
  EXPECT_FALSE(same_token(token, ""));
  for (const std::size_t at : {0, 15, 31}) {
    std::string other = token;
    other[at] = 'g';
    EXPECT_FALSE(same_token(token, other)) << at;
  }
  EXPECT_FALSE(same_token("ab", "ba"));
  EXPECT_FALSE(same_token("aa", "bb")) << "differences do not cancel each other out";
}

}  // namespace
}  // namespace balloon::daemon
