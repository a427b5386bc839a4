#include "balloond/config/config.h"

#include <gtest/gtest.h>

#include "balloond/config/resolve.h"
#include "balloond/config/tunable_keys.h"
#include "tests/unit/balloond/fakes.h"

namespace balloon::daemon {
namespace {

using test::kGiB;
using test::kMiB;

/// The complaints about a daemon file, or "" when it is good.
std::string complaints(const std::string& text) {
  const auto document = yaml::Document::parse(text, "d.yaml");
  if (!document) return document.error().message;
  DaemonConfig config;
  const auto read = read_daemon_config(*document, "/etc/balloond/d.yaml", config);
  return read ? "" : read.error().message;
}

Result<PolicyFile> policy_of(const std::string& text) {
  const auto document = yaml::Document::parse(text, "p.yaml");
  if (!document) return std::unexpected(document.error());
  return read_policy(*document, 8 * kGiB);
}

std::string policy_complaints(const std::string& text) {
  const auto policy = policy_of(text);
  return policy ? "" : policy.error().message;
}

/// A time at which no schedule plays a part.
WallFace noon() {
  return WallFace(std::chrono::sys_days(std::chrono::January / 5 / 2026) + std::chrono::hours(12));
}

TEST(DaemonConfigTest, AnEmptyFileIsTheDefaults) {
  EXPECT_EQ(complaints(""), "");
  const DaemonConfig config;
  EXPECT_EQ(config.period, std::chrono::seconds(1));
  EXPECT_TRUE(config.metrics_listen.empty());
  EXPECT_TRUE(config.journal.directory.empty()) << "nothing is recorded unless somebody asks for it";
  EXPECT_TRUE(config.reservations_file.empty());
}

TEST(DaemonConfigTest, EveryFieldIsRead) {
  const auto document = yaml::Document::parse(
      "socket: {path: /run/x.sock, mode: \"0600\", group: kvm}\nmetrics: {listen: 127.0.0.1:9477}\n"
      "control: {period: 500ms, stats_interval: 2s}\npolicy: sub/p.yaml\nlog_level: debug\n"
      "journal: {directory: /var/j, file_size: 2MiB, total_size: 5MiB}\nreservations: {file: /var/r.json}\n",
      "d.yaml");
  ASSERT_TRUE(document);
  DaemonConfig config;
  ASSERT_TRUE(read_daemon_config(*document, "/etc/balloond/d.yaml", config));
  EXPECT_EQ(config.socket_path, "/run/x.sock");
  EXPECT_EQ(config.socket_mode, 0600U);
  EXPECT_EQ(config.socket_group, "kvm");
  EXPECT_EQ(config.metrics_listen, "127.0.0.1:9477");
  EXPECT_EQ(config.period, std::chrono::milliseconds(500));
  EXPECT_EQ(config.stats_interval, std::chrono::seconds(2));
  EXPECT_EQ(config.policy_path, "/etc/balloond/sub/p.yaml");
  EXPECT_EQ(config.log_level, "debug");
  EXPECT_EQ(config.journal.directory, "/var/j");
  EXPECT_EQ(config.journal.file_size, 2 * kMiB);
  EXPECT_EQ(config.journal.total_size, 5 * kMiB);
  EXPECT_EQ(config.reservations_file, "/var/r.json");
}

struct Refusal {
  const char* text;
  const char* complaint;
};

TEST(DaemonConfigTest, WhatIsWrongIsRefusedWithItsPlace) {
  const Refusal refusals[] = {
      {"sockt: {}\n", "d.yaml:1:1: sockt: unknown key; did you mean 'socket'?"},
      {"log_level: info\nlog_level: debug\n",
       "d.yaml:2:1: log_level: duplicate key; it stands in line 1 already"},
      {"log_level: loud\n", "d.yaml:1:12: log_level: 'loud' is not one of debug, info, warning, error"},
      {"socket: {path: x}\n", "d.yaml:1:16: socket.path: 'x' is not an absolute path"},
      {"socket:\n  mode: 0999\n",
       "d.yaml:2:9: socket.mode: '0999' is not a file mode: write for example \"0660\""},
      {"metrics: {}\n", "d.yaml:1:10: metrics: key 'listen' is missing"},
      {"metrics: {listen: localhost}\n",
       "d.yaml:1:19: metrics.listen: 'localhost' is not an IPv4 address and port: write for example "
       "127.0.0.1:9477"},
      {"metrics: {listen: 127.0.0.1:99999}\n",
       "d.yaml:1:19: metrics.listen: '127.0.0.1:99999' is not an IPv4 address and port: write for example "
       "127.0.0.1:9477"},
      {"control: {period: 99ms}\n", "d.yaml:1:19: control.period: it must be from 100ms to 60s"},
      {"control: {period: 61s}\n", "d.yaml:1:19: control.period: it must be from 100ms to 60s"},
      {"control:\n  stats_interval: 5\n",
       "d.yaml:2:19: control.stats_interval: expected a duration such as 500ms, 1s, 10m or 1h, found '5'"},
      {"policy: ''\n", "d.yaml:1:9: policy: the path is empty"},
      {"journal: {}\n", "d.yaml:1:10: journal: key 'directory' is missing"},
      {"journal: {directory: j}\n", "d.yaml:1:22: journal.directory: 'j' is not an absolute path"},
      {"journal: {directory: /j, file_size: 2GiB}\n",
       "d.yaml:1:37: journal.file_size: it must be from 1MiB to 1GiB"},
      {"journal: {directory: /j, file_size: 8MiB, total_size: 15MiB}\n",
       "d.yaml:1:10: journal: total_size 15 MiB is below two files of 8 MiB"},
      {"reservations: {}\n", "d.yaml:1:15: reservations: key 'file' is missing"},
      {"reservations: {file: r.json}\n", "d.yaml:1:22: reservations.file: 'r.json' is not an absolute path"},
      {"- 1\n", "d.yaml:1:1: expected a mapping, found a list"},
  };
  for (const Refusal& refusal : refusals)
    EXPECT_EQ(complaints(refusal.text), refusal.complaint) << refusal.text;
}

TEST(DaemonConfigTest, ASocketPathOf107CharactersIsTakenAndOneOf108IsNot) {
  EXPECT_EQ(complaints("socket: {path: /" + std::string(106, 'x') + "}\n"), "");
  EXPECT_EQ(complaints("socket: {path: /" + std::string(107, 'x') + "}\n"),
            "d.yaml:1:16: socket.path: 108 characters are too long for a Unix socket: the most is 107");
}

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
      {"engine: {surplus: nobody}\n", "p.yaml:1:19: engine.surplus: 'nobody' is not one of headroom, guests"},
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
       "p.yaml:1:20: defaults.weight: expected a whole number from 0 to 4294967295, found '-1'"},
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
  EXPECT_EQ(limits.max % 4096, 0U);
}

TEST(LoadConfigTest, ComplaintsAboutBothFilesAreListed) {
  const test::FakeTree tree;
  tree.write("/d.yaml", "log_level: loud\npolicy: p.yaml\n");
  tree.write("/p.yaml", "hots: {}\n");
  const auto config = load_config(tree.root() + "/d.yaml", 8 * kGiB);
  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().message,
            tree.root() + "/d.yaml:1:12: log_level: 'loud' is not one of debug, info, warning, error\n" +
                tree.root() + "/p.yaml:1:1: hots: unknown key; did you mean 'host'?");
}

TEST(LoadConfigTest, TheShippedFilesAreGood) {
  const auto config = load_config(SHIPPED_CONFIG "/balloond.yaml", 8 * kGiB);
  ASSERT_TRUE(config) << config.error().message;
  // It shows every key with its default, so that whoever changes one sees what it was.
  EXPECT_EQ(describe(config->policy.tunables), describe(policy::Tunables()));
  const WallFace face = noon();
  const policy::GuestLimits shipped = resolve(config->policy, "a", {}, 2 * kGiB, face);
  const policy::GuestLimits built_in = resolve(PolicyFile(), "a", {}, 2 * kGiB, face);
  EXPECT_EQ(shipped.min, built_in.min);
  EXPECT_EQ(shipped.max, built_in.max);
  EXPECT_EQ(shipped.weight, built_in.weight);
  EXPECT_EQ(shipped.margin_factor, built_in.margin_factor);
  EXPECT_EQ(shipped.ksm, built_in.ksm);
}

}  // namespace
}  // namespace balloon::daemon
