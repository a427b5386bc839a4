// SPDX-License-Identifier: Apache-2.0
// A policy file: what is refused, with its place, and what its values become.
#include <gtest/gtest.h>

#include "base/bytes.h"
#include "base/pages.h"
#include "policy/rules/resolve.h"

namespace balloon::policy::rules {
namespace {

Result<PolicyFile> policy_of(const std::string& text) {
  const auto document = yaml::Document::parse(text, "p.yaml");
  if (!document) return std::unexpected(document.error());
  return read_policy(*document, 8 * kGiB);
}

std::string policy_complaints(const std::string& text) {
  const auto policy = policy_of(text);
  return policy ? "" : policy.error().message;
}

TEST(PolicyFile, ASmallHostKeepsLessForItselfUnlessToldOtherwise) {
  const auto reserve = [](const char* text, Bytes host) {
    const auto document = yaml::Document::parse(text, "p.yaml");
    return read_policy(document.value(), host).value().tunables.host_reserve;
  };
  EXPECT_EQ(reserve("{}\n", kGiB), sliding_minimum_free(kGiB));
  EXPECT_EQ(reserve("{}\n", 8 * kGiB), 400 * kMiB);
  EXPECT_EQ(reserve("{}\n", 512 * kGiB), 400 * kMiB);
  EXPECT_EQ(reserve("host: {reserve: 400MiB}\n", kGiB), 400 * kMiB);
}

/// A time at which no schedule plays a part.
WallFace noon() {
  return WallFace(std::chrono::sys_days(std::chrono::January / 5 / 2026) + std::chrono::hours(12));
}

struct Refusal {
  const char* text;
  const char* complaint;
};

TEST(PolicyFileTest, WhatIsWrongIsRefusedWithItsPlace) {
  const Refusal refusals[] = {
      {"hosts: {}\n", "p.yaml:1:1: hosts: unknown key; did you mean 'host'?"},
      {"host: {reserve: 400}\n",
       "p.yaml:1:17: host.reserve: '400' is not a size: it has no unit (write for example 512MiB or 2GiB)"},
      {"host: {reserve: -1GiB}\n",
       "p.yaml:1:17: host.reserve: '-1GiB' is not a size: it is negative (write for example 512MiB or 2GiB)"},
      {"host: {reserve: 8GiB}\n", "p.yaml:1:17: host.reserve: 8 GiB is not below the host's memory, 8 GiB"},
      {"engine: {margin_ratio: 15}\n", "p.yaml:1:24: engine.margin_ratio: 15 is not a ratio from 0 to 1"},
      {"engine: {margin_ratio: 15%}\n", "p.yaml:1:24: engine.margin_ratio: expected a number, found '15%'"},
      {"engine: {stale_after: 0s}\n", "p.yaml:1:23: engine.stale_after: it must be from 100ms to 1h"},
      {"engine: {hold: 2h}\n", "p.yaml:1:16: engine.hold: it must be from 0s to 1h"},
      {"engine: {surplus: nobody}\n",
       "p.yaml:1:19: engine.surplus: 'nobody' is not one of headroom, guests, wanted"},
      {"engine: {host_reserve: 1GiB}\n",
       "p.yaml:1:10: engine.host_reserve: unknown key; expected one of balloon_speed, blind_after, "
       "budget_rise_ratio_per_second, cache_half_life, critical_growth, critical_ratio, deadband_min, "
       "deadband_ratio, doubt_after, doubt_cache_ratio, growth_horizon, headroom_ratio, hold, hold_growth, "
       "hold_max, ksm_credit, ksm_ratio, "
       "ksm_scan, ksm_scan_critical, margin_low, margin_min, margin_ratio, need_half_life, oom_memory, "
       "peak_window, "
       "pressure_alloc_stalls, pressure_direct_scans, pressure_host_refaults, pressure_host_some, "
       "pressure_major_faults, pressure_ratio, pressure_swap_in, progress_per_second, retry_after, "
       "retry_max, "
       "shrink_ratio_per_second, stale_after, stuck_after, surplus, swapped_half_life, untouched_min, "
       "untouched_ratio"},
      {"engine: {critical_growth: 0.5}\n",
       "p.yaml:1:27: engine.critical_growth: 0.5 is not a factor from 1 to 4"},
      {"defaults: {weight: 0}\n", "p.yaml:1:20: defaults.weight: 0 is not a weight from 1 to 10000"},
      {"defaults: {weight: 10001}\n", "p.yaml:1:20: defaults.weight: 10001 is not a weight from 1 to 10000"},
      {"defaults: {weight: -1}\n",
       "p.yaml:1:20: defaults.weight: expected a whole number from 1 to 10000, found '-1'"},
      {"defaults: {min: 2GiB, max: 1GiB}\n", "p.yaml:1:17: defaults.min: min 2 GiB is above max 1 GiB"},
      {"defaults: {min: 60%, max: 50%}\n", "p.yaml:1:17: defaults.min: min 60% is above max 50%"},
      {"defaults: {max: 101%}\n",
       "p.yaml:1:17: defaults.max: '101%' is not a share of boot memory: it must be above 0% and at most "
       "100%"},
      {"defaults: {min: 0}\n", "p.yaml:1:17: defaults.min: it must be at least one page (4 KiB)"},
      {"defaults: {min: 512}\n",
       "p.yaml:1:17: defaults.min: '512' is not a size: it has no unit (write for example 512MiB or 2GiB), "
       "a share of boot memory such as 50%, or linux-floor"},
      {"guests:\n  - weight: 5\n",
       "p.yaml:2:5: guests[0]: it selects no guests: give it a name or labels (or put the values under "
       "defaults)"},
      {"defaults: {min: 256MiB}\nguests:\n  - name: a\n    max: 128MiB\n",
       "p.yaml:4:10: guests[0].max: min 256 MiB is above max 128 MiB"},
      {"guests:\n  - {labels: {}}\n", "p.yaml:2:14: guests[0].labels: no label is named"},
      {"groups:\n  - {name: a, min: 4GiB}\n  - {name: b, min: 50%}\n"
       "guests: [{name: a, group: a}, {name: b, group: b}]\n",
       "p.yaml:3:20: groups[1].min: the minimums of the groups up to this one and host.reserve are 8.39 GiB "
       "together, and the host has 8 GiB: they cannot hold"},
      {"guests: {name: a}\n", "p.yaml:1:9: guests: expected a list, found a mapping"},
  };
  for (const Refusal& refusal : refusals)
    EXPECT_EQ(policy_complaints(refusal.text), refusal.complaint) << refusal.text;
}

TEST(PolicyFileTest, EveryComplaintIsListed) {
  EXPECT_EQ(policy_complaints("host: {reserve: 9GiB}\ndefaults: {weight: 0}\n"),
            "p.yaml:1:17: host.reserve: 9 GiB is not below the host's memory, 8 GiB\n"
            "p.yaml:2:20: defaults.weight: 0 is not a weight from 1 to 10000");
}

TEST(PolicyFileTest, TunablesAreReadByName) {
  const auto policy = policy_of(
      "host: {reserve: 1GiB}\nengine: {margin_ratio: 0.3, margin_min: 64MiB, growth_horizon: 5s, "
      "need_half_life: 1m, "
      "deadband_ratio: 0.1, deadband_min: 8MiB, shrink_ratio_per_second: 0.5, hold: 0s, stale_after: 3s, "
      "stuck_after: 4s, "
      "surplus: guests}\n");
  ASSERT_TRUE(policy) << policy.error().message;
  EXPECT_EQ(policy->tunables.host_reserve, kGiB);
  EXPECT_EQ(policy->tunables.reserve_kept_ratio, 1) << "who says what it is wants it kept";
  EXPECT_EQ(policy->tunables.margin_ratio, 0.3);
  EXPECT_EQ(policy->tunables.margin_min, 64 * kMiB);
  EXPECT_EQ(policy->tunables.need_half_life, std::chrono::minutes(1));
  EXPECT_EQ(policy->tunables.hold, std::chrono::nanoseconds(0));
  EXPECT_EQ(policy->tunables.surplus, policy::Surplus::guests);
}

TEST(PolicyFileTest, TheHostsKsmIsLeftAloneUnlessPolicySaysOtherwise) {
  EXPECT_FALSE(policy_of("")->ksm);
  EXPECT_FALSE(policy_of("defaults: {ksm: on}\n")->ksm) << "that is about guests";
  EXPECT_TRUE(policy_of("host: {ksm: on}\n")->ksm);
  EXPECT_FALSE(policy_of("host: {ksm: off}\n")->ksm);
}

TEST(ResolveTest, TheFirstRuleThatFitsCountsAndDefaultsFillIt) {
  const auto policy = policy_of(
      "guests:\n  - {name: \"web-*\", labels: {tier: db}, weight: 7}\n  - {name: \"web-*\", max: 1GiB}\n"
      "  - {labels: {tier: db}, min: 50%}\ndefaults: {min: 512MiB, weight: 200}\n");
  ASSERT_TRUE(policy) << policy.error().message;
  const policy::GuestLimits both = resolve(*policy, "web-1", {{"tier", "db"}}, 2 * kGiB, noon());
  EXPECT_EQ(both.weight, 7U);
  EXPECT_EQ(both.min, 512 * kMiB);
  EXPECT_EQ(both.max, 2 * kGiB);
  const policy::GuestLimits web = resolve(*policy, "web-1", {{"tier", "front"}}, 2 * kGiB, noon());
  EXPECT_EQ(web.max, kGiB);
  EXPECT_EQ(web.weight, 200U);
  EXPECT_EQ(resolve(*policy, "x", {{"tier", "db"}, {"more", "1"}}, 2 * kGiB, noon()).min, kGiB);
  EXPECT_EQ(resolve(*policy, "x", {}, 2 * kGiB, noon()).min, 512 * kMiB);
}

TEST(ResolveTest, LimitsStayWithinBootMemoryInWholePages) {
  const auto policy = policy_of("defaults: {min: 1GiB, max: 33.3%}\n");
  ASSERT_TRUE(policy) << policy.error().message;
  const policy::GuestLimits limits = resolve(*policy, "small", {}, 128 * kMiB, noon());
  EXPECT_LE(limits.max, 128 * kMiB);
  EXPECT_EQ(limits.min, limits.max) << "a minimum above the guest's maximum is the maximum";
  EXPECT_EQ(limits.max % kPageSize, Bytes{0});
}

}  // namespace
}  // namespace balloon::policy::rules
