// SPDX-License-Identifier: Apache-2.0
// What guests and groups are granted by a policy's rules, by time, and how often the daemon looks at them.
#include <gtest/gtest.h>

#include <ctime>
#include <filesystem>
#include <fstream>

#include "base/bytes.h"
#include "policy/rules/resolver.h"

namespace balloon::policy::rules {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;

using WallTime = std::chrono::system_clock::time_point;
using Labels = std::map<std::string, std::string>;

PolicyFile policy_of(const std::string& text) {
  const auto document = yaml::Document::parse(text, "p.yaml");
  EXPECT_TRUE(document) << document.error().message;
  auto policy = read_policy(*document, 8 * kGiB);
  EXPECT_TRUE(policy) << policy.error().message;
  return policy ? *policy : PolicyFile();
}

/// A temporary directory of policy files.
class PolicyDirectory {
 public:
  PolicyDirectory() {
    std::string pattern = (std::filesystem::temp_directory_path() / "balloond-rules-XXXXXX").string();
    root_ = ::mkdtemp(pattern.data());
  }
  ~PolicyDirectory() { std::filesystem::remove_all(root_); }
  PolicyDirectory(const PolicyDirectory&) = delete;
  PolicyDirectory& operator=(const PolicyDirectory&) = delete;

  const std::string& root() const { return root_; }
  void write(const std::string& name, const std::string& text) const {
    const std::filesystem::path file = std::filesystem::path(root_) / name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }

 private:
  std::string root_;
};

/// Monday, 5 January 2026, and days and times after it, in UTC.
WallTime monday(int days, std::chrono::seconds time) {
  return std::chrono::sys_days(std::chrono::January / 5 / 2026) + std::chrono::days(days) + time;
}

policy::GuestLimits limits_of(const PolicyFile& policy, const std::string& name, const Labels& labels = {},
                              policy::Bytes memory = 2 * kGiB, WallTime at = monday(0, hours(12))) {
  return resolve(policy, name, labels, memory, WallFace(at));
}

TEST(LinuxFloorTest, IsHyperVsPublishedTable) {
  EXPECT_EQ(linux_floor(64 * kMiB), 40 * kMiB);
  EXPECT_EQ(linux_floor(512 * kMiB), 168 * kMiB);
  EXPECT_EQ(linux_floor(kGiB), 232 * kMiB);
  EXPECT_EQ(linux_floor(2 * kGiB), 360 * kMiB);
  EXPECT_EQ(linux_floor(4 * kGiB), 488 * kMiB);
  EXPECT_EQ(linux_floor(8 * kGiB), 744 * kMiB);
}

TEST(LinuxFloorTest, IsTheMinimumWhereNothingIsSaidAndNeverAboveTheGuestsMemory) {
  const PolicyFile policy = policy_of("");
  EXPECT_EQ(limits_of(policy, "a").min, 360 * kMiB);
  EXPECT_EQ(limits_of(policy, "a", {}, 8 * kMiB).min, 8 * kMiB);
}

TEST(ClassTest, GuaranteedKeepsAllItsMemoryUnlessMoreIsSaid) {
  const PolicyFile policy = policy_of(
      "guests:\n  - {name: a, class: guaranteed}\n  - {name: b, class: guaranteed, max: 1GiB}\n"
      "  - {name: c, class: guaranteed, min: 512MiB, weight: 7}\n");
  const policy::GuestLimits all = limits_of(policy, "a");
  EXPECT_EQ(all.min, 2 * kGiB);
  EXPECT_EQ(all.max, 2 * kGiB);
  EXPECT_EQ(all.weight, 400U);
  const policy::GuestLimits bounded = limits_of(policy, "b");
  EXPECT_EQ(bounded.min, kGiB);
  EXPECT_EQ(bounded.max, kGiB);
  const policy::GuestLimits flexible = limits_of(policy, "c");
  EXPECT_EQ(flexible.min, 512 * kMiB);
  EXPECT_EQ(flexible.max, 2 * kGiB);
  EXPECT_EQ(flexible.weight, 7U);
}

TEST(ClassTest, ANearerClassReplacesTheOuterOneWithAllThatItStoodFor) {
  const PolicyFile policy = policy_of(
      "defaults: {class: guaranteed, ksm: off}\nguests: [{name: a, class: best-effort}, {name: b, weight: "
      "9}]\n");
  const policy::GuestLimits best_effort = limits_of(policy, "a");
  EXPECT_EQ(best_effort.min, 360 * kMiB);
  EXPECT_EQ(best_effort.weight, 25U);
  EXPECT_EQ(best_effort.margin_factor, 0.5);
  EXPECT_FALSE(best_effort.ksm) << "what is not of the class stays";
  EXPECT_EQ(limits_of(policy, "b").min, 2 * kGiB);
  EXPECT_EQ(limits_of(policy, "b").weight, 9U) << "what is said counts, not what its class stands for";
}

TEST(ClassTest, AClassGoesBeforeValuesOfOuterPlaces) {
  const PolicyFile policy =
      policy_of("defaults: {min: 256MiB, weight: 200}\nguests: [{name: a, class: guaranteed}]\n");
  EXPECT_EQ(limits_of(policy, "a").min, 2 * kGiB);
  EXPECT_EQ(limits_of(policy, "a").weight, 400U);
}

constexpr auto kFamily =
    "defaults: {weight: 10}\n"
    "groups:\n"
    "  - {name: child, inherits: parent, weight: 30, each: {ksm: off}}\n"
    "  - {name: parent, inherits: grandparent, min: 1GiB, each: {weight: 20, max: 1GiB}}\n"
    "  - {name: grandparent, max: 50%, weight: 5, each: {weight: 15, min: 128MiB}}\n"
    "guests:\n  - {labels: {of: child}, group: child, max: 75%}\n  - {name: b, group: grandparent}\n";

TEST(GroupTest, AGuestHasItsRulesValuesThenItsGroupsThenThoseInheritedThenTheDefaults) {
  const PolicyFile policy = policy_of(kFamily);
  const policy::GuestLimits child = limits_of(policy, "a", {{"of", "child"}});
  EXPECT_EQ(child.group, "child");
  EXPECT_EQ(child.max, 1536 * kMiB);
  EXPECT_EQ(child.weight, 20U);
  EXPECT_EQ(child.min, 128 * kMiB);
  EXPECT_FALSE(child.ksm);
  EXPECT_EQ(limits_of(policy, "b").weight, 15U);
  const policy::GuestLimits none = limits_of(policy, "c");
  EXPECT_EQ(none.group, "");
  EXPECT_EQ(none.weight, 10U);
}

TEST(GroupTest, GroupsHaveTheirOwnPartOfTheHostByNameAndInheritIt) {
  const auto groups = resolve_groups(policy_of(kFamily), WallFace(monday(0, hours(12))));
  ASSERT_EQ(groups.size(), 3U);
  EXPECT_EQ(groups[0].name, "child");
  EXPECT_EQ(groups[0].weight, 30U);
  EXPECT_EQ(groups[0].min, kGiB);
  EXPECT_EQ(groups[0].max, 4 * kGiB) << "half of the host's 8 GiB";
  EXPECT_EQ(groups[1].name, "grandparent");
  EXPECT_EQ(groups[1].min, Bytes{0}) << "a group guarantees nothing by itself";
  EXPECT_EQ(groups[2].name, "parent");
  EXPECT_EQ(groups[2].weight, 5U);
}

TEST(GroupTest, AGroupWithoutMaximumIsNotBounded) {
  EXPECT_EQ(resolve_groups(policy_of("groups: [{name: a}]\n"), WallFace(monday(0, hours(12)))).at(0).max,
            Bytes::max());
}

constexpr auto kNights =
    "guests:\n  - name: batch\n    weight: 50\n    schedules:\n"
    "      - when: [{days: [mon, tue], from: \"22:00\", to: \"24:00\"}, {days: [tue, wed], to: \"06:00\"}]\n"
    "        zone: UTC\n        weight: 400\n"
    "      - {when: [{days: [mon], from: \"23:00\"}], zone: UTC, weight: 1, min: 1GiB}\n";

TEST(ScheduleTest, CountsFromItsFirstMinuteToJustBeforeItsLast) {
  const PolicyFile policy = policy_of(kNights);
  const auto weight = [&](int day, std::chrono::seconds time) {
    return limits_of(policy, "batch", {}, 2 * kGiB, monday(day, time)).weight;
  };
  EXPECT_EQ(weight(0, hours(22) - seconds(1)), 50U);
  EXPECT_EQ(weight(0, hours(22)), 400U);
  EXPECT_EQ(weight(0, hours(24) - seconds(1)), 400U);
  EXPECT_EQ(weight(1, seconds(0)), 400U);
  EXPECT_EQ(weight(1, hours(6) - seconds(1)), 400U);
  EXPECT_EQ(weight(1, hours(6)), 50U);
  EXPECT_EQ(weight(3, hours(1)), 50U) << "not on Thursdays";
}

TEST(ScheduleTest, TheFirstActiveOneCountsAndItsValuesAlone) {
  const PolicyFile policy = policy_of(kNights);
  const policy::GuestLimits both = limits_of(policy, "batch", {}, 2 * kGiB, monday(0, hours(23)));
  EXPECT_EQ(both.weight, 400U);
  EXPECT_EQ(both.min, 360 * kMiB);
}

TEST(ScheduleTest, LocalTimeIsTheHosts) {
  const char* const before = std::getenv("TZ");
  const std::string zone = before == nullptr ? "" : before;
  ::setenv("TZ", "XXX-05:30", 1);  // five and a half hours ahead of UTC
  ::tzset();
  const PolicyFile policy =
      policy_of("defaults: {schedules: [{when: [{days: [tue], to: \"01:00\"}], weight: 7}]}\n");
  EXPECT_EQ(limits_of(policy, "a", {}, kGiB, monday(0, hours(18) + minutes(30))).weight, 7U);
  EXPECT_EQ(limits_of(policy, "a", {}, kGiB, monday(0, hours(18) + minutes(29))).weight, 100U);
  EXPECT_EQ(limits_of(policy, "a", {}, kGiB, monday(1, minutes(30))).weight, 100U);
  before == nullptr ? ::unsetenv("TZ") : ::setenv("TZ", zone.c_str(), 1);
  ::tzset();
}

TEST(ScheduleTest, GroupsHaveTheirsToo) {
  const PolicyFile policy = policy_of(
      "groups:\n  - name: a\n    weight: 50\n    schedules: [{when: [{to: \"06:00\"}], zone: UTC, max: "
      "25%}]\n");
  EXPECT_EQ(resolve_groups(policy, WallFace(monday(0, hours(1)))).at(0).max, 2 * kGiB);
  EXPECT_EQ(resolve_groups(policy, WallFace(monday(0, hours(6)))).at(0).max, Bytes::max());
}

TEST(TermsTest, SayWhichPlaceTheyComeFrom) {
  const PolicyFile policy = policy_of(kFamily);
  const Resolution child =
      resolve_terms(policy, "a", {{"of", "child"}}, 2 * kGiB, WallFace(monday(0, hours(12))));
  EXPECT_EQ(child.rule->layer.place.path, "guests[0]");
  EXPECT_EQ(child.terms.max.place->path, "guests[0]");
  EXPECT_EQ(child.terms.max.place->line, 7U);
  EXPECT_EQ(child.terms.weight.place->path, "groups[1].each");
  EXPECT_EQ(child.terms.min.place->path, "groups[2].each");
  EXPECT_EQ(child.terms.slo_class.place, nullptr) << "built in";
}

TEST(ResolverTest, LooksAtTheRulesOnlyForGuestsThatChangedOrWhenAScheduleBeginsOrEnds) {
  Resolver resolver(policy_of(kNights));
  const auto tick = [&](WallTime at) {
    resolver.at(at);
    return resolver.limits("batch", {}, 2 * kGiB).weight;
  };
  EXPECT_EQ(tick(monday(0, hours(12))), 50U);
  for (int second = 1; second < 300; ++second) tick(monday(0, hours(12) + seconds(second)));
  EXPECT_EQ(resolver.resolutions(), 1U) << "nothing changed in five minutes";
  EXPECT_EQ(tick(monday(0, hours(22))), 400U);
  EXPECT_EQ(tick(monday(1, hours(1))), 400U);
  EXPECT_EQ(resolver.resolutions(), 2U) << "the same schedule is active past midnight";
  EXPECT_EQ(tick(monday(0, hours(12))), 50U) << "the clock was set back";
  EXPECT_EQ(resolver.resolutions(), 3U);
  resolver.limits("batch", {{"tier", "x"}}, 2 * kGiB);
  EXPECT_EQ(resolver.resolutions(), 4U) << "other labels";
  EXPECT_EQ(resolver.limits("batch", {{"tier", "x"}}, kGiB).max, kGiB);
  EXPECT_EQ(resolver.resolutions(), 5U) << "other memory";
}

TEST(ResolverTest, ForgetsGuestsThatAreGone) {
  Resolver resolver(policy_of(""));
  for (int i = 0; i < 3; ++i) {
    resolver.at(monday(0, seconds(i)));
    resolver.limits("a", {}, kGiB);
    if (i == 0) resolver.limits("gone", {}, kGiB);
  }
  EXPECT_EQ(resolver.resolutions(), 2U);
  resolver.at(monday(0, seconds(3)));
  resolver.limits("gone", {}, kGiB);
  EXPECT_EQ(resolver.resolutions(), 3U) << "it was remembered though two rounds went by without it";
}

TEST(ResolverTest, GroupsFollowSchedules) {
  Resolver resolver(
      policy_of("groups:\n  - {name: a, schedules: [{when: [{to: \"06:00\"}], zone: UTC, weight: 7}]}\n"));
  resolver.at(monday(0, hours(1)));
  EXPECT_EQ(resolver.groups().at(0).weight, 7U);
  resolver.at(monday(0, hours(6)));
  EXPECT_EQ(resolver.groups().at(0).weight, 100U);
}

TEST(SlidingMinimumTest, IsEsxsScale) {
  EXPECT_EQ(policy::sliding_minimum_free(8 * kGiB) / kMiB, 409U);
  EXPECT_EQ(policy::sliding_minimum_free(64 * kGiB) / kMiB, 1269U);
}

TEST(ShadowTest, IsLoadedBesideAndComplainedAboutByItsOwnName) {
  const PolicyDirectory directory;
  directory.write("p.yaml", "shadow: sub/s.yaml\n");
  directory.write("sub/s.yaml", "defaults: {min: 1GiB}\n");
  const auto policy = load_policy(directory.root() + "/p.yaml", 8 * kGiB);
  ASSERT_TRUE(policy) << policy.error().message;
  ASSERT_TRUE(policy->shadow);
  EXPECT_EQ(limits_of(*policy->shadow, "a").min, kGiB);
  directory.write("sub/s.yaml", "default: {}\n");
  const auto bad = load_policy(directory.root() + "/p.yaml", 8 * kGiB);
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().message,
            directory.root() + "/sub/s.yaml:1:1: default: unknown key; did you mean 'defaults'?");
}

TEST(ShadowTest, HasNoShadowOfItsOwn) {
  const PolicyDirectory directory;
  directory.write("p.yaml", "shadow: p.yaml\n");
  const auto policy = load_policy(directory.root() + "/p.yaml", 8 * kGiB);
  ASSERT_FALSE(policy);
  EXPECT_NE(policy.error().message.find("a shadow has none of its own"), std::string::npos);
}

TEST(Resolve, WhatTheHypervisorGrantsCountsWherePolicySaysSo) {
  const PolicyFile policy = policy_of(R"(
defaults: {min: 1GiB, weight: 50}
guests:
  - {name: ours, limits: policy}
  - {name: "*", limits: hypervisor, max: 75%}
)");
  const Labels said{{"limits/min", "1536 MiB"}, {"limits/weight", "200"}};
  const auto web = limits_of(policy, "web", said);
  EXPECT_EQ(web.min, 1536 * kMiB);
  EXPECT_EQ(web.max, 1536 * kMiB) << "75% of 2 GiB, which the policy goes on to say";
  EXPECT_EQ(web.weight, 200U);
  EXPECT_EQ(limits_of(policy, "ours", said).min, kGiB);
  EXPECT_EQ(limits_of(policy, "ours", said).weight, 50U);
  EXPECT_EQ(limits_of(policy, "silent").min, kGiB) << "whose hypervisor says nothing has the policy's";
  EXPECT_EQ(limits_of(policy, "silent").weight, 50U);
}

TEST(Resolve, AGuestThatItsHypervisorKeepsFromBallooningIsLeftAlone) {
  const PolicyFile policy = policy_of("defaults: {limits: hypervisor}");
  const auto control = [&](const Labels& labels) {
    return resolve_terms(policy, "web", labels, 2 * kGiB, WallFace(monday(0, hours(12)))).terms.control.value;
  };
  EXPECT_TRUE(control({}));
  EXPECT_FALSE(control({{"limits/control", "off"}}));
}

TEST(Resolve, WhatAHypervisorSaysThatMakesNoSenseIsLeftOut) {
  const PolicyFile policy = policy_of("defaults: {limits: hypervisor, min: 1GiB}");
  for (const char* nonsense : {"", "-1", "much", "99999999999999999999", "0"}) {
    const auto web = limits_of(policy, "web", {{"limits/min", nonsense}, {"limits/weight", nonsense}});
    EXPECT_EQ(web.min, kGiB) << nonsense;
    EXPECT_EQ(web.weight, 100U) << nonsense;
  }
  EXPECT_EQ(limits_of(policy, "web", {{"limits/min", "64 GiB"}}).min, 2 * kGiB) << "all it has";
}

}  // namespace
}  // namespace balloon::policy::rules
