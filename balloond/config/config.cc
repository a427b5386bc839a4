#include "balloond/config/config.h"

#include "policy/rules/tunable_keys.h"

namespace balloon::daemon {

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
  if (!complaints.empty()) return fail(std::move(complaints));
  return config;
}

}  // namespace balloon::daemon
