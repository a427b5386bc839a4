// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/qmp/message.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/balloond/guests/qmp/recording.h"

namespace balloon::daemon::qmp {
namespace {

using testing::HasSubstr;

std::string complaint_about(std::string_view line) {
  const auto message = parse_message(line);
  return message ? "none" : message.error().message;
}

TEST(Message, EveryLineOfARealQemuIsOne) {
  int read = 0;
  for (const std::string& line : recorded_lines()) {
    if (!line.starts_with("< ") || line.size() == 2) continue;
    EXPECT_TRUE(parse_message(line.substr(2))) << line;
    ++read;
  }
  EXPECT_GT(read, 50);
}

TEST(Message, GreetingHasTheVersion) {
  const auto message = parse_message(recorded_lines().front().substr(2));
  ASSERT_TRUE(message);
  ASSERT_TRUE(std::holds_alternative<Greeting>(*message));
  EXPECT_EQ(std::get<Greeting>(*message).version, "7.2.22");
}

TEST(Message, GreetingWithoutAVersionIsStillOne) {
  for (const char* line : {R"({"QMP":{}})", R"({"QMP":5})", R"({"QMP":{"version":{"qemu":{"major":-1}}}})"}) {
    const auto message = parse_message(line);
    ASSERT_TRUE(message) << line;
    EXPECT_EQ(std::get<Greeting>(*message).version, "");
  }
}

TEST(Message, ErrorHasItsClassAndWords) {
  const auto message = parse_message(recorded_line("mistakes", "nonsense"));
  ASSERT_TRUE(message);
  const auto& failure = std::get<Failure>(*message);
  EXPECT_EQ(failure.error_class, "CommandNotFound");
  EXPECT_EQ(failure.description, "The command nonsense has not been found");
  EXPECT_TRUE(failure.id.has_value());
}

TEST(Message, ErrorAboutWhatCouldNotBeReadHasNoId) {
  const auto message = parse_message(recorded_line("mistakes", "{\"execute\": }"));
  ASSERT_TRUE(message);
  EXPECT_EQ(std::get<Failure>(*message).id, std::nullopt);
}

TEST(Message, EventHasItsData) {
  const auto message = parse_message(
      R"({"timestamp": {"seconds": 1, "microseconds": 2}, "event": "BALLOON_CHANGE", "data": {"actual": 5}})");
  ASSERT_TRUE(message);
  EXPECT_EQ(std::get<Event>(*message).name, "BALLOON_CHANGE");
  EXPECT_EQ(std::get<Event>(*message).data.at("actual"), 5);
}

TEST(Message, GarbageIsShownInPart) {
  EXPECT_EQ(complaint_about("SSH-2.0-OpenSSH_9.2"), "it sent what is not JSON: 'SSH-2.0-OpenSSH_9.2'");
  EXPECT_EQ(complaint_about("{\"return\": {"), "it sent what is not JSON: '{\"return\": {'");
  EXPECT_THAT(complaint_about(std::string(1000, 'x')), testing::SizeIs(testing::Lt(100)));
  EXPECT_EQ(complaint_about("\xff\xfe\x1b[2J"), "it sent what is not JSON: '???[2J'");
}

TEST(Message, TextThatIsNotUtf8IsRefused) {
  EXPECT_THAT(complaint_about("{\"event\":\"\xc3\x28\"}"), HasSubstr("not JSON"));
}

TEST(Message, JsonOfAnotherKindIsRefused) {
  EXPECT_THAT(complaint_about("[1,2]"), HasSubstr("not an object"));
  EXPECT_THAT(complaint_about("5"), HasSubstr("not an object"));
  EXPECT_THAT(complaint_about("{}"), HasSubstr("no message of QMP"));
  EXPECT_THAT(complaint_about(R"({"event":5})"), HasSubstr("no message of QMP"));
  EXPECT_THAT(complaint_about(R"({"error":"no"})"), HasSubstr("no message of QMP"));
}

TEST(Message, DeepNestingIsReadOrRefusedButHarmless) {
  const std::string deep = "{\"return\":" + std::string(200'000, '[') + std::string(200'000, ']') + "}";
  EXPECT_TRUE(parse_message(deep));
  EXPECT_FALSE(parse_message(std::string(500'000, '[')));
}

TEST(Message, IdThatIsNoNumberOfOursIsNone) {
  for (const char* id : {"\"x\"", "-1", "1.5", "{}", "99999999999999999999999"}) {
    const auto message = parse_message(fmt::format(R"({{"return":{{}},"id":{}}})", id));
    ASSERT_TRUE(message) << id;
    EXPECT_EQ(std::get<Return>(*message).id, std::nullopt) << id;
  }
}

TEST(Message, CommandIsOneLine) {
  EXPECT_EQ(command_line("query-balloon", nlohmann::json::object(), 7),
            "{\"execute\":\"query-balloon\",\"id\":7}\n");
  EXPECT_EQ(command_line("balloon", {{"value", 5}}, 8),
            "{\"arguments\":{\"value\":5},\"execute\":\"balloon\",\"id\":8}\n");
}

}  // namespace
}  // namespace balloon::daemon::qmp
