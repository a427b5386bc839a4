// SPDX-License-Identifier: Apache-2.0
#include "balloond/config/config.h"

#include <fmt/format.h>

#include <chrono>

#include "policy/rules/tunable_keys.h"

namespace balloon::daemon {
namespace {

/// Statistics have to come twice before they are stale: one sample that is late must not make a guest one
/// that is not acted on.
constexpr int kSamplesWithinStale = 2;

Result<void> check_together(const Config& config, const std::string& path) {
  using std::chrono::milliseconds;
  const auto interval = config.daemon.stats_interval;
  const auto stale = config.policy.tunables.stale_after;
  if (interval * kSamplesWithinStale <= stale) return {};
  return fail(
      fmt::format("{}: control.stats_interval: {}ms is more than half of the policy's engine.stale_after, "
                  "{}ms: guests would be stale whenever a sample is late",
                  path, std::chrono::ceil<milliseconds>(interval).count(),
                  std::chrono::floor<milliseconds>(stale).count()));
}

}  // namespace

Result<Config> load_config(const std::string& path, Bytes host_memory) {
  const auto document = yaml::Document::load(path);
  if (!document) return std::unexpected(document.error());
  Config config;
  std::string complaints;
  const auto note = [&complaints](const Error& error) {
    if (!complaints.empty()) complaints += '\n';
    complaints += error.message;
  };
  if (const auto read = read_daemon_config(*document, path, config.daemon); !read) note(read.error());
  config.policy.tunables = policy::rules::default_tunables(host_memory);
  if (!config.daemon.policy_path.empty()) {
    auto policy = policy::rules::load_policy(config.daemon.policy_path, host_memory);
    if (policy) {
      config.policy = std::move(*policy);
    } else {
      note(policy.error());
    }
  }
  if (complaints.empty()) {
    if (const auto fits = check_together(config, path); !fits) note(fits.error());
  }
  if (!complaints.empty()) return fail(std::move(complaints));
  return config;
}

}  // namespace balloon::daemon
