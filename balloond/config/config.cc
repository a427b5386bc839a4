#include "balloond/config/config.h"

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
  if (!config.daemon.policy_path.empty()) {
    const auto policy_document = yaml::Document::load(config.daemon.policy_path);
    auto policy = policy_document ? read_policy(*policy_document, host_memory)
                                  : Result<PolicyFile>(std::unexpected(policy_document.error()));
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
