// SPDX-License-Identifier: Apache-2.0
#include "vmm/monitor/json_frames.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace balloon::vmm::test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class JsonFramesTest : public testing::Test {
 protected:
  bool feed(std::string_view bytes) {
    return frames.feed(bytes, [this](std::string_view value) { values.emplace_back(value); }).has_value();
  }
  JsonFrames frames;
  std::vector<std::string> values;
};

TEST_F(JsonFramesTest, ObjectsNeedNoNewlines) {
  EXPECT_TRUE(feed(R"({"a":1}{"b":2} )"
                   "\r\n"
                   R"({"c":[{}]})"));
  EXPECT_THAT(values, ElementsAre(R"({"a":1})", R"({"b":2})", R"({"c":[{}]})"));
}

TEST_F(JsonFramesTest, AnObjectMayComeByteByByteAndOverSeveralLines) {
  for (const char c : std::string("{\n \"execute\" :\n \"stop\" }\n")) EXPECT_TRUE(feed({&c, 1}));
  EXPECT_THAT(values, ElementsAre("{\n \"execute\" :\n \"stop\" }"));
}

TEST_F(JsonFramesTest, BracesAndQuotesInStringsDoNotCount) {
  EXPECT_TRUE(feed(R"({"a":"}{\"]\\"})"));
  EXPECT_THAT(values, ElementsAre(R"({"a":"}{\"]\\"})"));
}

TEST_F(JsonFramesTest, WhatIsNoObjectEndsWithItsLineOrAtTheNextObject) {
  EXPECT_TRUE(feed("hello\n\n}\n123{\"a\":1}"));
  EXPECT_THAT(values, ElementsAre("hello", "}", "123", R"({"a":1})"));
}

TEST_F(JsonFramesTest, SingleQuotesHoldStringsToo) {
  EXPECT_TRUE(feed(R"({'a':'}"{\']'}{"b":"'}'"})"));
  EXPECT_THAT(values, ElementsAre(R"({'a':'}"{\']'})", R"({"b":"'}'"})"));
}

TEST_F(JsonFramesTest, ACharacterThatNoValueHasLeadsBackToAKnownState) {
  for (const char* broken : {"\x01", "\xff", "\xfe"}) {
    for (const std::string half : {"", "{\"a\":[", "{\"a", "{'a"}) {
      values.clear();
      EXPECT_TRUE(feed(half + broken + "x {\"b\":1}"));
      EXPECT_THAT(values, ElementsAre(half + broken, R"({"b":1})"));
    }
  }
}

TEST_F(JsonFramesTest, AnUnterminatedRequestIsRefusedAtTheLimit) {
  EXPECT_TRUE(feed("{\"a\":\"" + std::string(JsonFrames::kMaxBytes - 6, 'x')));
  EXPECT_FALSE(feed("x"));
  EXPECT_FALSE(feed("\"}{}"));
  EXPECT_THAT(values, IsEmpty());
}

TEST_F(JsonFramesTest, ALineOf100MegabytesIsRefusedAtTheLimitToo) {
  const std::string part(1 << 20, 'y');
  std::size_t taken = 0;
  for (int i = 0; i < 100; ++i) taken += feed(part) ? part.size() : 0;
  EXPECT_EQ(taken, 0U);
}

TEST_F(JsonFramesTest, ANestingBombIsRefused) {
  EXPECT_TRUE(feed(std::string(JsonFrames::kMaxDepth, '[')));
  EXPECT_FALSE(feed("["));
}

TEST_F(JsonFramesTest, ABombOfObjectsIsRefused) {
  std::string bomb;
  for (int i = 0; i < 100'000; ++i) bomb += "{\"a\":";
  EXPECT_FALSE(feed(bomb));
  EXPECT_THAT(values, IsEmpty());
}

}  // namespace
}  // namespace balloon::vmm::test
