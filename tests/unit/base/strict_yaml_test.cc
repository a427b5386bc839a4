// SPDX-License-Identifier: Apache-2.0
#include "base/strict_yaml.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace balloon::yaml {
namespace {

using std::chrono_literals::operator""s;
using std::chrono_literals::operator""ms;
using testing::HasSubstr;

struct Sample {
  std::string name = "default";
  std::uint32_t weight = 100;
  double ratio = 0.5;
  bool on = false;
  Bytes size{};
  std::chrono::nanoseconds period = 1s;
  std::vector<std::string> items;
  std::map<std::string, std::string> labels;
};

Result<Sample> read(std::string_view text) {
  Sample sample;
  auto document = Document::parse(text, "f.yaml");
  if (!document) return std::unexpected(document.error());
  document->root([&](Map& root) {
    root.field("name", sample.name);
    root.field("weight", sample.weight);
    root.map("inner", [&](Map& inner) {
      inner.field("ratio", sample.ratio);
      inner.field("on", sample.on);
      inner.bytes("size", sample.size);
      inner.field("period", sample.period);
    });
    root.list("items", [&](const Value& item) { item.read(sample.items.emplace_back()); });
    root.with("labels", [&](const Value& labels) { labels.read_strings(sample.labels); });
  });
  BALLOON_TRY(document->finish());
  return sample;
}

std::string complaint(std::string_view text) {
  const auto sample = read(text);
  return sample ? "accepted" : sample.error().message;
}

TEST(StrictYaml, ReadsEachKindOfValue) {
  const auto sample = read(
      "name: web\nweight: 7\ninner: {ratio: 0.25, on: true, size: 512MiB, period: 250ms}\nitems: [a, b]\n"
      "labels: {tier: db}\n");
  ASSERT_TRUE(sample) << sample.error().message;
  EXPECT_EQ(sample->name, "web");
  EXPECT_EQ(sample->weight, 7U);
  EXPECT_EQ(sample->ratio, 0.25);
  EXPECT_TRUE(sample->on);
  EXPECT_EQ(sample->size, 512 * kMiB);
  EXPECT_EQ(sample->period, 250ms);
  EXPECT_THAT(sample->items, testing::ElementsAre("a", "b"));
  EXPECT_THAT(sample->labels, testing::ElementsAre(testing::Pair("tier", "db")));
}

TEST(StrictYaml, KeepsDefaultsForAnEmptyFile) {
  const auto sample = read("# nothing but a comment\n");
  ASSERT_TRUE(sample) << sample.error().message;
  EXPECT_EQ(sample->name, "default");
}

TEST(StrictYaml, RefusesAnUnknownKeyWithItsPlaceAndTheNearestKnownOne) {
  EXPECT_EQ(complaint("name: a\nwieght: 3\n"), "f.yaml:2:1: wieght: unknown key; did you mean 'weight'?");
  EXPECT_EQ(complaint("inner:\n  zzz: 1\n"),
            "f.yaml:2:3: inner.zzz: unknown key; expected one of on, period, ratio, size");
}

TEST(StrictYaml, RefusesADuplicateKey) {
  EXPECT_EQ(complaint("weight: 1\nname: a\nweight: 2\n"),
            "f.yaml:3:1: weight: duplicate key; it stands in line 1 already");
}

TEST(StrictYaml, RefusesAWrongUnit) {
  EXPECT_THAT(complaint("inner:\n  size: 512\n"),
              HasSubstr("f.yaml:2:9: inner.size: '512' is not a size: it has no unit"));
  EXPECT_THAT(complaint("inner:\n  period: 5\n"),
              HasSubstr("f.yaml:2:11: inner.period: expected a duration"));
  EXPECT_THAT(complaint("inner: {period: 5 parsecs}\n"), HasSubstr("expected a duration"));
}

TEST(StrictYaml, RefusesAWrongKindOfValue) {
  EXPECT_THAT(complaint("weight: -1\n"), HasSubstr("f.yaml:1:9: weight: expected a whole number"));
  EXPECT_THAT(complaint("weight: 010\n"), HasSubstr("expected a whole number"));
  EXPECT_THAT(complaint("weight: 1.5\n"), HasSubstr("expected a whole number"));
  EXPECT_THAT(complaint("inner: {on: perhaps}\n"),
              HasSubstr("expected true or false (or on or off), found 'perhaps'"));
  EXPECT_THAT(complaint("inner: {ratio: .nan}\n"), HasSubstr("expected a number"));
  EXPECT_THAT(complaint("inner: 3\n"), HasSubstr("expected a mapping, found a single value"));
  EXPECT_THAT(complaint("items: a\n"), HasSubstr("expected a list"));
  EXPECT_THAT(complaint("name: [a]\n"), HasSubstr("expected a text, found a list"));
  EXPECT_THAT(complaint("name:\n"), HasSubstr("expected a text, found nothing"));
  EXPECT_THAT(complaint("- a\n- b\n"), HasSubstr("expected a mapping, found a list"));
}

TEST(StrictYaml, BooleansAreThoseOfEitherVersionOfYaml) {
  for (const auto& [text, value] : std::vector<std::pair<std::string, bool>>{{"true", true},
                                                                             {"on", true},
                                                                             {"Yes", true},
                                                                             {"TRUE", true},
                                                                             {"off", false},
                                                                             {"No", false},
                                                                             {"FALSE", false}}) {
    const auto document = yaml::Document::parse("on: " + text + "\n", "f.yaml");
    bool read = !value;
    document->root([&](yaml::Map& root) { root.field("on", read); });
    EXPECT_TRUE(document->finish()) << text;
    EXPECT_EQ(read, value) << text;
  }
  for (const char* const text : {"oN", "y", "1", "tRUE", "truee"})
    EXPECT_THAT(complaint(std::string("inner: {on: ") + text + "}\n"), HasSubstr("expected true or false"))
        << text;
}

TEST(StrictYaml, CollectsAllComplaints) {
  const std::string all = complaint("weight: x\nbad: 1\ninner: {on: 3}\n");
  EXPECT_THAT(all, HasSubstr("f.yaml:1:9: weight"));
  EXPECT_THAT(all, HasSubstr("f.yaml:2:1: bad"));
  EXPECT_THAT(all, HasSubstr("f.yaml:3:13: inner.on"));
}

TEST(StrictYaml, RefusesSyntaxErrorsWithTheirPlace) {
  EXPECT_THAT(complaint("a: [1, 2\nb: 3\n"), HasSubstr("f.yaml:2:"));
  EXPECT_THAT(complaint("\ta: 1\n"), HasSubstr("not valid YAML"));
}

TEST(StrictYaml, RefusesWhatYamlCppWouldPassOver) {
  EXPECT_THAT(complaint("name: a\n---\nname: b\n"), HasSubstr("more than one document"));
  EXPECT_THAT(complaint("name: &x a\nitems: [*x]\n"), HasSubstr("aliases are not supported"));
  EXPECT_THAT(complaint("inner: {<<: {ratio: 1}}\n"), HasSubstr("unknown key"));
  EXPECT_THAT(complaint(std::string(20000, '[')), HasSubstr("f.yaml"));
  EXPECT_THAT(complaint(std::string("a\0b", 3)), HasSubstr("NUL"));
  EXPECT_THAT(complaint(std::string(2 << 20, '#')), HasSubstr("larger than 1 MiB"));
}

TEST(StrictYaml, SaysWhenAFileCannotBeRead) {
  const auto absent = Document::load("/nonexistent/x.yaml");
  ASSERT_FALSE(absent);
  EXPECT_THAT(absent.error().message, HasSubstr("No such file"));
  const auto directory = Document::load("/");
  ASSERT_FALSE(directory);
  EXPECT_THAT(directory.error().message, HasSubstr("directory"));
}

}  // namespace
}  // namespace balloon::yaml
