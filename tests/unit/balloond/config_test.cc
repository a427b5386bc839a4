// SPDX-License-Identifier: Apache-2.0
#include "balloond/config/config.h"

#include <gtest/gtest.h>

#include "policy/rules/resolve.h"
#include "policy/rules/tunable_keys.h"
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

/// A time at which no schedule plays a part.
policy::rules::WallFace noon() {
  return policy::rules::WallFace(std::chrono::sys_days(std::chrono::January / 5 / 2026) +
                                 std::chrono::hours(12));
}

TEST(DaemonConfigTest, AnEmptyFileIsTheDefaults) {
  EXPECT_EQ(complaints(""), "");
  const DaemonConfig config;
  EXPECT_EQ(config.period, std::chrono::seconds(1));
  EXPECT_TRUE(config.metrics_listen.empty());
  EXPECT_TRUE(config.journal.directory.empty()) << "nothing is recorded unless somebody asks for it";
  EXPECT_TRUE(config.reservations_file.empty());
  EXPECT_TRUE(config.needs_directory.empty());
}

TEST(DaemonConfigTest, EveryFieldIsRead) {
  const auto document = yaml::Document::parse(
      "socket: {path: /run/x.sock, mode: \"0600\", group: kvm}\nmetrics: {listen: 127.0.0.1:9477}\n"
      "control: {period: 500ms, stats_interval: 2s}\npolicy: sub/p.yaml\nlog_level: debug\n"
      "journal: {directory: /var/j, file_size: 2MiB, total_size: 5MiB}\nreservations: {file: /var/r.json}\n"
      "needs: {directory: /var/n}\n",
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
  EXPECT_EQ(config.needs_directory, "/var/n");
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
       "d.yaml:1:19: metrics.listen: 'localhost' is not an IPv4 or IPv6 address and port, nor a Unix socket: "
       "write for example 127.0.0.1:9477, [::1]:9477 or unix:/run/balloond/metrics.sock"},
      {"metrics: {listen: 127.0.0.1:99999}\n",
       "d.yaml:1:19: metrics.listen: '127.0.0.1:99999' is not an IPv4 or IPv6 address and port, nor a Unix "
       "socket: "
       "write for example 127.0.0.1:9477, [::1]:9477 or unix:/run/balloond/metrics.sock"},
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
      {"needs: {}\n", "d.yaml:1:8: needs: key 'directory' is missing"},
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

TEST(LoadConfigTest, GuestsAreAskedForStatisticsTwiceBeforeTheseAreStale) {
  const test::FakeTree tree;
  const auto complaint = [&tree](const std::string& daemon, const std::string& policy) {
    tree.write("/d.yaml", daemon + "policy: p.yaml\n");
    tree.write("/p.yaml", policy);
    const auto config = load_config(tree.root() + "/d.yaml", 8 * kGiB);
    return config ? "" : config.error().message;
  };
  EXPECT_EQ(complaint("control: {stats_interval: 5s}\n", ""), "");
  EXPECT_EQ(complaint("control: {stats_interval: 5100ms}\n", ""),
            tree.root() +
                "/d.yaml: control.stats_interval: 5100ms is more than half of the policy's "
                "engine.stale_after, 10000ms: guests would be stale whenever a sample is late");
  EXPECT_EQ(complaint("control: {stats_interval: 15s}\n", "engine: {stale_after: 30s}\n"), "");
  EXPECT_NE(complaint("", "engine: {stale_after: 1500ms}\n"), "") << "the default interval does not fit";
}

TEST(LoadConfigTest, TheShippedFilesAreGood) {
  const auto config = load_config(SHIPPED_CONFIG "/balloond.yaml", 8 * kGiB);
  ASSERT_TRUE(config) << config.error().message;
  // It shows every key with its default, so that whoever changes one sees what it was.
  EXPECT_EQ(policy::rules::describe(config->policy.tunables), policy::rules::describe(policy::Tunables()));
  const policy::rules::WallFace face = noon();
  const policy::GuestLimits shipped = resolve(config->policy, "a", {}, 2 * kGiB, face);
  const policy::GuestLimits built_in = resolve(policy::rules::PolicyFile(), "a", {}, 2 * kGiB, face);
  EXPECT_EQ(shipped.min, built_in.min);
  EXPECT_EQ(shipped.max, built_in.max);
  EXPECT_EQ(shipped.weight, built_in.weight);
  EXPECT_EQ(shipped.margin_factor, built_in.margin_factor);
  EXPECT_EQ(shipped.ksm, built_in.ksm);
}

}  // namespace
}  // namespace balloon::daemon
