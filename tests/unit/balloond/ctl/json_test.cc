// SPDX-License-Identifier: Apache-2.0
// Messages for programs.
#include "balloond/ctl/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <yaml-cpp/yaml.h>

#include <nlohmann/json.hpp>

#include "balloon/v1/scheduler.pb.h"

namespace balloon::ctl {
namespace {

v1::Guest guest() {
  v1::Guest out;
  out.set_name("on");
  out.set_memory_bytes(1ULL << 46);
  out.set_state(v1::GUEST_STATE_STALE);
  (*out.mutable_labels())["version"] = "1.10";
  out.mutable_stats()->mutable_round_trip()->set_nanos(800'000);
  out.mutable_pinned_until()->set_seconds(1'800'000'000);
  return out;
}

TEST(JsonTest, DurationsAreSecondsAndTimesAreTexts) {
  const auto json = json_of(guest());
  EXPECT_DOUBLE_EQ(json["stats"]["round_trip"].get<double>(), 0.0008);
  EXPECT_EQ(json["pinned_until"], "2027-01-15T08:00:00.000Z");
  EXPECT_EQ(json["memory_bytes"], 1ULL << 46);
  EXPECT_EQ(json["state"], "stale");
  EXPECT_TRUE(json["decision"].is_null());
}

TEST(JsonTest, YamlSaysTheSameToReadersOfEitherVersion) {
  const std::string text = yaml_text(json_of(guest()));
  const YAML::Node yaml = YAML::Load(text);
  EXPECT_EQ(yaml["name"].as<std::string>(), "on");
  EXPECT_NE(text.find("name: \"on\"\n"), std::string::npos) << "YAML 1.1 would read a plain on as true";
  EXPECT_NE(text.find("version: \"1.10\"\n"), std::string::npos) << "and this as a number\n" << text;
  EXPECT_EQ(yaml["memory_bytes"].as<std::uint64_t>(), 1ULL << 46);
  EXPECT_DOUBLE_EQ(yaml["stats"]["round_trip"].as<double>(), 0.0008);
  EXPECT_TRUE(yaml["decision"].IsNull());
}

}  // namespace
}  // namespace balloon::ctl
