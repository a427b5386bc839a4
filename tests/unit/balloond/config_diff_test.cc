// SPDX-License-Identifier: Apache-2.0
// What balloonctl says of policies: what differs, who says so, when.
#include <gtest/gtest.h>

#include "balloond/ctl/policy.h"
#include "balloond/ctl/policy_diff.h"
#include "tests/unit/balloond/fakes.h"

namespace balloon::ctl {
namespace {

using daemon::test::FakeTree;
using daemon::test::kGiB;

policy::rules::PolicyFile policy_of(const std::string& text) {
  const auto document = yaml::Document::parse(text, "p.yaml");
  auto policy = policy::rules::read_policy(*document, 8 * kGiB);
  EXPECT_TRUE(policy) << policy.error().message;
  return policy ? *policy : policy::rules::PolicyFile();
}

/// "key: before -> after", one a line.
std::string differences(const std::string& before, const std::string& after) {
  std::string out;
  for (const Difference& difference : rule_differences(policy_of(before), policy_of(after)))
    out += difference.key + ": " + difference.before + " -> " + difference.after + '\n';
  return out;
}

TEST(PolicyDiffTest, ToWriteDownWhatIsBuiltInOrToMoveSectionsIsNoDifference) {
  EXPECT_EQ(
      differences("", "defaults: {min: linux-floor, max: 100%, weight: 100, class: burstable, ksm: on}\n"),
      "");
  EXPECT_EQ(differences("host: {reserve: 1024MiB}\ndefaults: {weight: 7}\n",
                        "defaults: {weight: 7}\nhost: {reserve: 1GiB}\n"),
            "");
}

TEST(PolicyDiffTest, EveryKeyThatDiffersIsNamed) {
  EXPECT_EQ(
      differences("engine: {hold: 10s}\ngroups: [{name: a, weight: 50}]\nguests: [{name: x, group: a}]\n",
                  "engine: {hold: 1m}\ngroups: [{name: a, weight: 60, max: 50%, each: {ksm: off}}]\n"
                  "guests: [{name: x}, {labels: {tier: b}, min: 10%}]\n"),
      "engine.hold: 10s -> 1m\n"
      "groups[a].weight: 50 -> 60\n"
      "guests[x].group: a -> \n"
      "groups[a].max:  -> 50%\n"
      "groups[a].each.ksm:  -> off\n"
      "guests[tier=b]:  -> defined\n"
      "guests[tier=b].min:  -> 10%\n");
}

TEST(PolicyDiffTest, SizesThatLookAlikeWhenRoundedDiffer) {
  EXPECT_EQ(differences("host: {reserve: 1025MiB}\n", "host: {reserve: 1026MiB}\n"),
            "host.reserve: 1025 MiB -> 1026 MiB\n");
}

TEST(PolicyDiffTest, WhoRunsTheHostsKsmIsADifference) {
  EXPECT_EQ(differences("", "host: {ksm: on}\n"), "host.ksm: off -> on\n");
}

TEST(PolicyDiffTest, RulesInAnotherOrderDiffer) {
  EXPECT_EQ(differences("guests: [{name: a}, {name: \"*\"}]\n", "guests: [{name: \"*\"}, {name: a}]\n"),
            "guests (order of the rules): a, * -> *, a\n");
}

TEST(PolicyDiffTest, SchedulesAreComparedInWords) {
  EXPECT_EQ(
      differences(
          "", "defaults: {schedules: [{when: [{days: [sat], from: \"22:00\"}], zone: UTC, weight: 7}]}\n"),
      "defaults.schedules[0]:  -> sat 22:00-24:00, UTC: weight 7\n");
}

TEST(PolicyDiffTest, GuestsAreNamedWithWhatTheyWouldBeGranted) {
  const auto changed = guest_differences(
      policy_of("guests: [{name: a, min: 1GiB}]\n"), policy_of("guests: [{name: a, min: 50%, weight: 7}]\n"),
      {{.name = "a", .labels = {}, .memory = 2 * kGiB}, {.name = "b", .labels = {}, .memory = 2 * kGiB}},
      policy::rules::WallFace(std::chrono::system_clock::time_point()));
  ASSERT_EQ(changed.size(), 1U) << "b has the same by both";
  EXPECT_EQ(changed[0].guest, "a");
  ASSERT_EQ(changed[0].values.size(), 1U) << "half of 2 GiB is 1 GiB";
  EXPECT_EQ(changed[0].values[0].key, "weight");
}

TEST(PolicyTimeTest, IsReadInUtcAndHere) {
  const auto utc = parse_time("2026-01-05T23:30Z");
  ASSERT_TRUE(utc);
  EXPECT_EQ(*utc,
            std::chrono::sys_days(std::chrono::January / 5 / 2026) + std::chrono::minutes(23 * 60 + 30));
  EXPECT_EQ(parse_time("2026-01-05T23:30:00Z"), utc);
  EXPECT_TRUE(parse_time("2026-01-05T23:30"));
  for (const char* const bad : {"", "23:30", "2026-01-05", "2026-01-05T23:30X", "2026-13-05T23:30"})
    EXPECT_FALSE(parse_time(bad)) << bad;
}

TEST(PolicyShowTest, SaysWhatAGuestWouldBeGrantedAndWhichRuleSaysSo) {
  const FakeTree tree;
  tree.write("/p.yaml",
             "groups:\n  - {name: batch, max: 4GiB, each: {class: best-effort}}\n"
             "guests:\n  - labels: {tier: batch}\n    group: batch\n"
             "    schedules: [{when: [{from: \"22:00\"}], zone: UTC, ksm: off}]\n");
  PolicyArguments arguments{.file = tree.root() + "/p.yaml",
                            .guest = "b-1",
                            .labels = {"tier=batch"},
                            .memory = "2GiB",
                            .host_memory = "8GiB",
                            .at = "2026-01-05T23:00Z"};
  const Printed shown = policy_show(arguments);
  EXPECT_EQ(shown.code, Exit::ok) << shown.complaint;
  EXPECT_NE(shown.text.find("Rule:   guests[0], line 4\n"), std::string::npos) << shown.text;
  EXPECT_NE(shown.text.find("Group:  batch: at least 0 B, at most 4 GiB, weight 100, together\n"),
            std::string::npos)
      << shown.text;
  EXPECT_NE(shown.text.find("min            360 MiB      linux-floor  built in\n"), std::string::npos)
      << shown.text;
  EXPECT_NE(shown.text.find(
                "weight         25           25           class best-effort of groups[0].each, line 2\n"),
            std::string::npos)
      << shown.text;
  EXPECT_NE(shown.text.find("ksm            off          off          guests[0].schedules[0], line 6\n"),
            std::string::npos)
      << shown.text;
}

TEST(PolicyShowTest, SizesAreRoundedAsPeopleSayThemAndExactBesides) {
  const FakeTree tree;
  tree.write("/p.yaml", "defaults: {min: 12342044KiB}\n");
  const Printed shown =
      policy_show({.file = tree.root() + "/p.yaml", .guest = "a", .memory = "16GiB", .host_memory = "64GiB"});
  EXPECT_NE(shown.text.find("11.8 GiB (12342044 KiB)"), std::string::npos) << shown.text;
  EXPECT_NE(shown.text.find("a, 16 GiB\n"), std::string::npos) << shown.text;
}

TEST(PolicyDropInTest, ItsRulesCountBeforeTheFilesOwnAndSayWhereTheyAre) {
  const FakeTree tree;
  tree.write("/policy.yaml", "groups: [{name: batch, weight: 10}]\nguests: [{name: \"db-*\", weight: 1}]\n");
  tree.write("/policy.d/20-web.yaml", "guests: [{name: \"*\", weight: 20}]\n");
  tree.write("/policy.d/10-db.yaml", "guests:\n  - {name: \"db-*\", group: batch, weight: 300}\n");
  tree.write("/policy.d/README", "no: policy\n");
  const PolicyArguments db{.file = tree.root() + "/policy.yaml", .guest = "db-1", .host_memory = "8GiB"};
  const Printed shown = policy_show(db);
  EXPECT_EQ(shown.code, Exit::ok) << shown.complaint;
  EXPECT_EQ(shown.json["values"]["weight"]["value"], 300);
  EXPECT_EQ(shown.json["values"]["weight"]["by"], "policy.d/10-db.yaml: guests[0], line 2");
  EXPECT_EQ(shown.json["group"]["name"], "batch") << "of the policy file itself";
  PolicyArguments web = db;
  web.guest = "web-1";
  EXPECT_EQ(policy_show(web).json["values"]["weight"]["value"], 20);
}

TEST(PolicyDropInTest, AllFilesAreTakenOrRefusedAsOne) {
  const FakeTree tree;
  tree.write("/policy.yaml", "groups: [{name: batch}]\n");
  tree.write("/policy.d/a.yaml", "host: {reserve: 1GiB}\n");
  tree.write("/policy.d/b.yaml", "groups: [{name: batch}]\n");
  const Printed checked = policy_check({.file = tree.root() + "/policy.yaml", .host_memory = "8GiB"});
  EXPECT_EQ(checked.code, Exit::failure);
  EXPECT_NE(checked.complaint.find("/policy.d/a.yaml:1:1: host: unknown key; expected one of groups, guests"),
            std::string::npos)
      << checked.complaint;
  EXPECT_NE(
      checked.complaint.find(
          "/policy.d/b.yaml:1:17: groups[0].name: there is a group 'batch' in line 1 of the policy file"),
      std::string::npos)
      << checked.complaint;
}

TEST(PolicyCheckTest, ABadFileIsRefusedWithEveryPlace) {
  const FakeTree tree;
  tree.write("/p.yaml", "defaults: {weight: 0, min: 2}\n");
  PolicyArguments arguments{.file = tree.root() + "/p.yaml", .host_memory = "8GiB"};
  const Printed text = policy_check(arguments);
  EXPECT_EQ(text.code, Exit::failure);
  EXPECT_TRUE(text.text.empty());
  EXPECT_NE(text.complaint.find("/p.yaml:1:20: defaults.weight: 0 is not a weight from 1 to 10000"),
            std::string::npos)
      << text.complaint;
  EXPECT_EQ(text.json["complaints"][1].dump(),
            R"({"line":1,"column":20,"text":"defaults.weight: 0 is not a weight from 1 to 10000"})");
}

}  // namespace
}  // namespace balloon::ctl
