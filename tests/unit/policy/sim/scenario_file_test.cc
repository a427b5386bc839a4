// SPDX-License-Identifier: Apache-2.0
#include "policy/sim/scenario_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/bytes.h"

namespace balloon::policy::sim {
namespace {

using std::chrono::seconds;
using testing::HasSubstr;

constexpr auto kStart = "summary: s\nduration: 1m\n";

std::string complaint(const std::string& text) {
  const auto scenario = parse_scenario(kStart + text, "f.yaml");
  return scenario ? "accepted" : scenario.error().message;
}

std::string guest_complaint(const std::string& fields) {
  return complaint("guests:\n  - {name: a, " + fields + "}\n");
}

TEST(ScenarioFile, ReadsHostGuestsEventsAndWindows) {
  const auto scenario = parse_scenario(
      "summary: what it shows\nduration: 10m\n"
      "host: {memory: 16GiB, own: {constant: 1GiB}, swap: {device: zram, size: 4GiB}, ksm: {run: true}}\n"
      "groups:\n  - {name: batch, min: 1GiB, weight: 50}\n"
      "guests:\n"
      "  - name: vm\n    count: 12\n    memory: 4GiB\n    min: 512MiB\n    max: 3GiB\n    weight: 7\n    "
      "group: batch\n"
      "    anon: {constant: 100MiB, square: {low: 0B, high: 1GiB, period: 60s, duty: 0.25}}\n"
      "    mergeable: {constant: 0.3}\n    stagger: 5s\n    balloon: {driver: stuck, stuck_at: 3GiB}\n"
      "    stats: {period: 2s, loss: 0.1, lie: frozen}\n"
      "events:\n  - {kind: daemon_down, at: 20s, until: 30s}\n"
      "  - {kind: stats_lie, at: 10s, until: 30s, guest: vm-03, lie: available_zero}\n"
      "judge: [{from: 1m, to: 5m}, {from: 6m}]\n"
      "tunables: {surplus: guests, host_reserve: 1GiB}\n",
      "dir/name.yaml");
  ASSERT_TRUE(scenario) << scenario.error().message;
  EXPECT_EQ(scenario->name, "name");
  EXPECT_EQ(scenario->host.swap.memory_ratio, kZramMemoryRatio);
  EXPECT_TRUE(scenario->host.ksm.present && scenario->host.ksm.run);
  ASSERT_EQ(scenario->guests.size(), 12U);
  EXPECT_EQ(scenario->guests[0].name, "vm-01");
  EXPECT_EQ(scenario->guests[11].name, "vm-12");
  EXPECT_EQ(scenario->guests[11].shift, seconds(55));
  const GuestSpec& guest = scenario->guests[2];
  EXPECT_EQ(guest.limits.max, 3 * kGiB);
  EXPECT_EQ(guest.limits.group, "batch");
  EXPECT_EQ(guest.anon.size(), 2U);
  EXPECT_EQ(guest.driver, Driver::stuck);
  EXPECT_EQ(guest.stats.lie, Lie::frozen);
  ASSERT_EQ(scenario->events.size(), 2U);
  EXPECT_EQ(scenario->events[0].kind, Event::Kind::stats_lie) << "sorted by time";
  ASSERT_EQ(scenario->judged.size(), 2U);
  EXPECT_EQ(scenario->judged[1].to, std::chrono::minutes(10));
  EXPECT_EQ(scenario->tunables.surplus, Surplus::guests);
}

TEST(ScenarioFile, AMinimalFileHasSensibleDefaults) {
  const auto scenario = parse_scenario("summary: s\nduration: 1m\nguests: [{name: a}]\n", "f.yaml");
  ASSERT_TRUE(scenario) << scenario.error().message;
  EXPECT_EQ(scenario->host.memory, 8 * kGiB);
  EXPECT_EQ(scenario->guests[0].memory, 2 * kGiB);
  EXPECT_EQ(scenario->guests[0].name, "a") << "one guest has no number";
  EXPECT_EQ(scenario->guests[0].limits.max, 2 * kGiB);
}

TEST(ScenarioFile, NeedsASummaryADurationAndGuests) {
  const auto scenario = parse_scenario("host: {memory: 1GiB}\n", "f.yaml");
  ASSERT_FALSE(scenario);
  EXPECT_THAT(scenario.error().message, HasSubstr("'summary' is missing"));
  EXPECT_THAT(scenario.error().message, HasSubstr("'duration' is missing"));
  EXPECT_THAT(scenario.error().message, HasSubstr("'guests' is missing"));
}

TEST(ScenarioFile, AScenarioOfTheTestbedIsToldApart) {
  const auto scenario = load_scenario(std::string(SCENARIO_DIR) + "/../demo.yaml");
  ASSERT_FALSE(scenario);
  EXPECT_THAT(scenario.error().message,
              HasSubstr("a scenario of the testbed, with real guests: scripts/demo.sh"));
}

TEST(ScenarioFile, RefusesAnUnknownKeyWithItsPlace) {
  EXPECT_THAT(complaint("guests: [{name: a}]\njudged: []\n"),
              HasSubstr("f.yaml:4:1: judged: unknown key; did you mean 'judge'?"));
}

TEST(ScenarioFile, RefusesAGuestThatMakesNoSense) {
  EXPECT_THAT(guest_complaint("memory: 0B"), HasSubstr("with memory"));
  EXPECT_THAT(guest_complaint("memory: 1GiB, min: 2GiB"), HasSubstr("min 2 GiB is above max 1 GiB"));
  EXPECT_THAT(guest_complaint("memory: 1GiB, max: 2GiB"), HasSubstr("max 2 GiB is above memory 1 GiB"));
  EXPECT_THAT(guest_complaint("weight: 0"), HasSubstr("weight above 0"));
  EXPECT_THAT(guest_complaint("count: 0"), HasSubstr("1 to 10000"));
  EXPECT_THAT(guest_complaint("anon_idle: 1.5"), HasSubstr("ratio from 0 to 1"));
  EXPECT_THAT(guest_complaint("memory: 512"), HasSubstr("unit"));
  EXPECT_THAT(guest_complaint("group: none"), HasSubstr("'none', which is not there"));
  EXPECT_THAT(guest_complaint("joins: 5s, reservation: {at: 1s}"), HasSubstr("leave joins out"));
  EXPECT_THAT(guest_complaint("reservation: {min: 1GiB}"), HasSubstr("'at' is missing"));
  EXPECT_THAT(guest_complaint("reservation: {at: 1s, min: 2GiB, max: 1GiB}"), HasSubstr("min is above max"));
}

TEST(ScenarioFile, RefusesTwoGuestsOfOneName) {
  EXPECT_THAT(complaint("guests: [{name: a}, {name: a}]\n"), HasSubstr("two guests are called 'a'"));
}

TEST(ScenarioFile, RefusesABalloonThatContradictsItself) {
  EXPECT_THAT(guest_complaint("balloon: {driver: stuck}"), HasSubstr("belong together"));
  EXPECT_THAT(guest_complaint("balloon: {stuck_at: 1GiB}"), HasSubstr("belong together"));
  EXPECT_THAT(guest_complaint("balloon: {driver: broken}"),
              HasSubstr("expected one of normal, absent, stuck, slow, found 'broken'"));
}

TEST(ScenarioFile, RefusesASignalThatMakesNoSense) {
  EXPECT_THAT(guest_complaint("anon: 300MiB"), HasSubstr("guests[0].anon: expected a mapping"));
  EXPECT_THAT(guest_complaint("anon: {}"), HasSubstr("at least one of constant"));
  EXPECT_THAT(guest_complaint("anon: {points: []}"), HasSubstr("at least one point"));
  EXPECT_THAT(guest_complaint("anon: {points: [[1s, 1MiB, 2]]}"), HasSubstr("a pair of a time and a value"));
  EXPECT_THAT(guest_complaint("anon: {points: [[9s, 1MiB], [1s, 1MiB]]}"),
              HasSubstr("before the last point's"));
  EXPECT_THAT(guest_complaint("anon: {square: {low: 1MiB, high: 2MiB}}"), HasSubstr("'period' is missing"));
  EXPECT_THAT(guest_complaint("anon: {square: {low: 1MiB, high: 2MiB, period: 0s}}"),
              HasSubstr("a time above 0"));
  EXPECT_THAT(guest_complaint("anon: {square: {low: 1MiB, high: 2MiB, period: 1s, duty: 1}}"),
              HasSubstr("between 0 and 1"));
  EXPECT_THAT(guest_complaint("anon: {sine: {mean: 1MiB, amplitude: 2MiB, period: 1s}}"),
              HasSubstr("below 0"));
  EXPECT_THAT(guest_complaint("anon: {build: {mean: 2MiB, max: 1MiB}}"), HasSubstr("max is below mean"));
  EXPECT_THAT(guest_complaint("anon: {leak: {start: 2MiB}}"), HasSubstr("'per_second' is missing"));
  EXPECT_THAT(guest_complaint("mergeable: {constant: 40MiB}"), HasSubstr("expected a number"));
  EXPECT_THAT(guest_complaint("mergeable: {constant: 4}"), HasSubstr("ratio from 0 to 1"));
}

TEST(ScenarioFile, RefusesAnEventThatMakesNoSense) {
  const auto event = [](const std::string& fields) {
    return complaint("guests: [{name: a}]\nevents: [{" + fields + "}]\n");
  };
  EXPECT_THAT(event("at: 1s, until: 2s"), HasSubstr("'kind' is missing"));
  EXPECT_THAT(event("kind: earthquake, at: 1s, until: 2s"), HasSubstr("expected one of daemon_down"));
  EXPECT_THAT(event("kind: daemon_down, at: 2s, until: 1s"), HasSubstr("'until' after 'at'"));
  EXPECT_THAT(event("kind: daemon_down, at: 1s, until: 2s, guest: a"), HasSubstr("leave guest out"));
  EXPECT_THAT(event("kind: backend_hangs, at: 1s, until: 2s, guest: b"),
              HasSubstr("name of a guest, found 'b'"));
  EXPECT_THAT(event("kind: stats_lie, at: 1s, until: 2s, guest: a"), HasSubstr("'lie' is missing"));
  EXPECT_THAT(event("kind: limits_change, at: 1s, guest: a, min: 9GiB"), HasSubstr("above max"));
}

TEST(ScenarioFile, RefusesWindowsThatOverlapOrLeaveTheDuration) {
  const auto judge = [](const std::string& windows) {
    return complaint("guests: [{name: a}]\njudge: [" + windows + "]\n");
  };
  EXPECT_THAT(judge("{from: 30s, to: 20s}"), HasSubstr("'to' after 'from'"));
  EXPECT_THAT(judge("{from: 30s, to: 2m}"), HasSubstr("within the duration"));
  EXPECT_THAT(judge("{from: 0s, to: 30s}, {from: 20s, to: 40s}"), HasSubstr("before the last window ends"));
}

TEST(ScenarioFile, RefusesGroupsThatMakeNoSense) {
  EXPECT_THAT(complaint("guests: [{name: a}]\ngroups: [{name: g}, {name: g}]\n"),
              HasSubstr("there is a group 'g' already"));
  EXPECT_THAT(complaint("guests: [{name: a}]\ngroups: [{name: g, min: 2GiB, max: 1GiB}]\n"),
              HasSubstr("min is above max"));
}

TEST(ScenarioFile, SaysWhichFileItCannotRead) {
  const auto scenario = load_scenario("/nowhere/s.yaml");
  ASSERT_FALSE(scenario);
  EXPECT_THAT(scenario.error().message, HasSubstr("/nowhere/s.yaml"));
}

TEST(ScenarioFile, EveryShippedScenarioIsGoodAndSaysWhatItShows) {
  for (const std::string directory : {SCENARIO_DIR, SCENARIO_DIR "/../cases"}) {
    std::size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(directory)) {
      const auto scenario = load_scenario(entry.path().string());
      ASSERT_TRUE(scenario) << scenario.error().message;
      EXPECT_FALSE(scenario->summary.empty());
      EXPECT_FALSE(scenario->judged.empty()) << entry.path();
      std::ifstream file(entry.path());
      EXPECT_EQ(file.get(), '#') << entry.path() << " begins with what it shows";
      ++count;
    }
    EXPECT_GE(count, 15U) << directory;
  }
}

TEST(ScenarioFile, TheDocumentationsExampleIsGood) {
  std::ifstream file(SIMULATOR_DOC);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const std::string fence = "```yaml\n";
  const std::size_t from = text.find(fence);
  ASSERT_NE(from, std::string::npos);
  const std::size_t to = text.find("```", from + fence.size());
  const auto scenario =
      parse_scenario(text.substr(from + fence.size(), to - from - fence.size()), "example.yaml");
  ASSERT_TRUE(scenario) << scenario.error().message;
  EXPECT_EQ(scenario->guests.size(), 2U);
  EXPECT_EQ(scenario->events.size(), 6U);
}

TEST(ScenarioFile, EffectsAreThePlantsUnlessAFileOrAGuestSaysOtherwise) {
  const auto scenario = parse_scenario(
      std::string(kStart) +
          "effects: {mapped: 0.5, noise: {load: 0.01}, arc_rule: false}\n"
          "guests:\n  - {name: a}\n  - {name: b, effects: {mapped: 0, reread: 1m}, disk: {device: disk}}\n",
      "f.yaml");
  ASSERT_TRUE(scenario) << scenario.error().message;
  const GuestEffects defaults;
  EXPECT_EQ(scenario->guests[0].effects.mapped, 0.5);
  EXPECT_EQ(scenario->guests[0].effects.reread, defaults.reread);
  EXPECT_EQ(scenario->guests[0].effects.noise_rest, defaults.noise_rest);
  EXPECT_EQ(scenario->guests[0].effects.noise_load, 0.01);
  EXPECT_EQ(scenario->guests[1].effects.mapped, 0);
  EXPECT_EQ(scenario->guests[1].effects.reread, std::chrono::minutes(1));
  EXPECT_EQ(scenario->guests[1].disk.at_once, 1);
  EXPECT_FALSE(scenario->host.effects.arc_rule);
  EXPECT_TRUE(scenario->host.effects.device_costs && scenario->host.effects.as_balloond);
}

TEST(ScenarioFile, EffectsThatAreOffAreOffAltogether) {
  const auto scenario = parse_scenario(
      std::string(kStart) + "effects: off\nhost: {swap: {device: zram, size: 1GiB}}\nguests: [{name: a}]\n",
      "f.yaml");
  ASSERT_TRUE(scenario) << scenario.error().message;
  const GuestEffects& effects = scenario->guests[0].effects;
  EXPECT_EQ(effects.mapped, 1) << "every file that is read again raised major faults";
  EXPECT_EQ(effects.reread, Time{});
  EXPECT_EQ(effects.noise_rest + effects.noise_load + effects.lru_error + effects.split + effects.split_cost,
            0);
  EXPECT_EQ(scenario->host.swap.memory_ratio, 0);
  EXPECT_FALSE(scenario->guests[0].stats.disk_reads);
  EXPECT_FALSE(scenario->host.effects.as_balloond || scenario->host.effects.device_costs ||
               scenario->host.effects.arc_rule);
}

TEST(ScenarioFile, EffectsAreOffOrAMapping) {
  EXPECT_THAT(complaint("effects: none\nguests: [{name: a}]\n"),
              HasSubstr("expected off, or a mapping of effects"));
  EXPECT_THAT(complaint("effects: {mapped: 2}\nguests: [{name: a}]\n"), HasSubstr("expected a ratio"));
  EXPECT_THAT(complaint("effects: {maped: 0.2}\nguests: [{name: a}]\n"), HasSubstr("mapped"));
}

}  // namespace
}  // namespace balloon::policy::sim
