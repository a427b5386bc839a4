// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/qmp/session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace balloon::daemon::qmp {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr const char* kGreeting = R"({"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}}}})";

class SessionTest : public testing::Test {
 protected:
  std::vector<News> take(const std::string& line) {
    auto news = session_.receive(line + "\r\n", now_);
    EXPECT_TRUE(news) << (news ? "" : news.error().message);
    return news.value_or(std::vector<News>{});
  }
  std::string refuse(const std::string& line) {
    const auto news = session_.receive(line + "\n", now_);
    return news ? "taken" : news.error().message;
  }
  void negotiate() {
    take(kGreeting);
    session_.take_output();
    take(R"({"return": {}, "id": 1})");
  }
  void ask(Question question, const std::string& name) {
    session_.ask({.question = question, .name = name, .arguments = nlohmann::json::object()}, now_);
  }
  std::string complaint() const {
    const auto checked = session_.check(now_);
    return checked ? "none" : checked.error().message;
  }

  Time now_ = 100s;
  Session session_{now_};
};

TEST_F(SessionTest, SaysNothingBeforeTheGreeting) {
  ask(Question::balloon_size, "query-balloon");
  EXPECT_EQ(session_.take_output(), "");
  EXPECT_FALSE(session_.greeted());
}

TEST_F(SessionTest, NegotiatesThenAsksWhatWaited) {
  ask(Question::balloon_size, "query-balloon");
  ask(Question::name, "query-name");
  take(kGreeting);
  EXPECT_EQ(session_.version(), "7.2.22");
  EXPECT_EQ(session_.take_output(), "{\"execute\":\"qmp_capabilities\",\"id\":1}\n");
  EXPECT_THAT(take(R"({"return": {}, "id": 1})"), IsEmpty());
  EXPECT_EQ(session_.take_output(),
            "{\"execute\":\"query-balloon\",\"id\":2}\n{\"execute\":\"query-name\",\"id\":3}\n");
  EXPECT_FALSE(session_.idle());
}

TEST_F(SessionTest, HandsOnAnswersAndEventsInTheirOrder) {
  negotiate();
  ask(Question::set_target, "balloon");
  ask(Question::balloon_size, "query-balloon");
  const auto news = take(
      "{\"return\": {}, \"id\": 2}\n"
      "{\"event\": \"BALLOON_CHANGE\", \"data\": {\"actual\": 9}}\n"
      "{\"return\": {\"actual\": 9}, \"id\": 3}");
  ASSERT_THAT(news, SizeIs(3));
  EXPECT_EQ(std::get<Answer>(news[0]).question, Question::set_target);
  EXPECT_EQ(std::get<Event>(news[1]).name, "BALLOON_CHANGE");
  EXPECT_EQ(std::get<Answer>(news[2]).question, Question::balloon_size);
  EXPECT_EQ(std::get<Answer>(news[2]).value->at("actual"), 9);
  EXPECT_TRUE(session_.idle());
}

TEST_F(SessionTest, HandsOnThatACommandWasNotDone) {
  negotiate();
  ask(Question::balloon_size, "query-balloon");
  const auto news = take(R"({"error": {"class": "DeviceNotActive", "desc": "No balloon device"}, "id": 2})");
  ASSERT_THAT(news, SizeIs(1));
  EXPECT_EQ(std::get<Answer>(news[0]).value.error().error_class, "DeviceNotActive");
}

TEST_F(SessionTest, WithoutGreetingASecondLongAnotherClientHasTheSocket) {
  now_ += 999ms;
  EXPECT_EQ(complaint(), "none");
  now_ += 1ms;
  EXPECT_EQ(session_.deadline(), now_);
  EXPECT_THAT(complaint(), HasSubstr("another client has the socket"));
  EXPECT_FALSE(session_.greeted());
}

TEST_F(SessionTest, AnAnswerThatNeverComesIsComplainedAboutByName) {
  negotiate();
  EXPECT_EQ(session_.deadline(), std::nullopt);
  now_ += 60s;
  EXPECT_EQ(complaint(), "none") << "nothing was asked";
  ask(Question::balloon_size, "query-balloon");
  now_ += kAnswerWait - 1ms;
  EXPECT_EQ(complaint(), "none");
  now_ += 1ms;
  EXPECT_EQ(complaint(), "no answer to query-balloon within 5 s");
}

TEST_F(SessionTest, HalfALineIsNoAnswer) {
  negotiate();
  ask(Question::balloon_size, "query-balloon");
  ASSERT_TRUE(session_.receive("{\"return\": {\"act", now_));
  now_ += kAnswerWait;
  EXPECT_EQ(complaint(), "no answer to query-balloon within 5 s, only half a line");
}

TEST_F(SessionTest, EventsDoNotPutOffTheDeadline) {
  negotiate();
  ask(Question::balloon_size, "query-balloon");
  now_ += kAnswerWait - 1ms;
  take(R"({"event": "STOP"})");
  now_ += 1ms;
  EXPECT_THAT(complaint(), HasSubstr("no answer"));
}

TEST_F(SessionTest, EachAnswerGivesTimeForTheNext) {
  negotiate();
  ask(Question::balloon_size, "query-balloon");
  ask(Question::name, "query-name");
  now_ += kAnswerWait - 1ms;
  take(R"({"return": {"actual": 9}, "id": 2})");
  now_ += kAnswerWait - 1ms;
  EXPECT_EQ(complaint(), "none");
}

TEST_F(SessionTest, NegotiationThatIsNeverAnsweredIsComplainedAbout) {
  take(kGreeting);
  now_ += kAnswerWait;
  EXPECT_THAT(complaint(), HasSubstr("no answer to qmp_capabilities"));
}

TEST_F(SessionTest, RefusesWhatWasNotAsked) {
  negotiate();
  EXPECT_EQ(refuse(R"({"return": {}, "id": 2})"), "it answers what was not asked");
  ask(Question::name, "query-name");
  ask(Question::uuid, "query-uuid");
  EXPECT_EQ(refuse(R"({"return": {}, "id": 3})"), "it answers what was not asked") << "out of order";
  EXPECT_EQ(refuse(R"({"return": {}})"), "it answers what was not asked") << "without a number";
}

TEST_F(SessionTest, RefusesToGoOnWhenACommandCouldNotBeRead) {
  negotiate();
  ask(Question::name, "query-name");
  EXPECT_EQ(refuse(R"({"error": {"class": "GenericError", "desc": "JSON parse error"}})"),
            "it could not read a command: JSON parse error");
}

TEST_F(SessionTest, RefusesWhatDoesNotGreet) {
  EXPECT_THAT(refuse("220 mail.example.org ESMTP"), HasSubstr("not JSON"));
  EXPECT_EQ(refuse(R"({"event": "STOP"})"), "an event comes before the greeting");
  EXPECT_EQ(refuse(R"({"return": {}, "id": 1})"), "it answers what was not asked");
}

TEST_F(SessionTest, RefusesASecondGreetingAndARefusedNegotiation) {
  take(kGreeting);
  EXPECT_EQ(refuse(kGreeting), "it greets twice");
  EXPECT_EQ(refuse(R"({"error": {"class": "GenericError", "desc": "no"}, "id": 1})"), "negotiation: no");
}

}  // namespace
}  // namespace balloon::daemon::qmp
