// SPDX-License-Identifier: Apache-2.0
// `balloonctl policy`: judges policy files without the daemon that would follow them.
#pragma once

#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "balloond/ctl/client.h"
#include "balloond/ctl/table.h"

namespace balloon::ctl {

struct PolicyArguments {
  std::string file{};
  std::string new_file{};
  std::string guest{};
  std::vector<std::string> labels{};  ///< "name=value"
  std::string memory = "2GiB";
  std::string host_memory{};  ///< empty: this machine's
  std::string at{};           ///< empty: now
};

/// What is to be printed, and the exit code.
struct Printed {
  Exit code = Exit::ok;
  nlohmann::ordered_json json{};  ///< the answer for programs; null: there is none
  std::string text{};             ///< and for people
  std::string complaint{};        ///< to standard error
};

/// Good or every complaint.
Printed policy_check(const PolicyArguments& arguments);
/// What a guest would be granted, and which rule says so.
Printed policy_show(const PolicyArguments& arguments, const Look& look = {});
/// What would change, for the daemon's guests too when it answers.
Printed policy_diff(const PolicyArguments& arguments, Client& client, const Look& look = {});

/// "2026-11-22T23:30" here or "2026-11-22T23:30Z" in UTC, with or without seconds.
std::optional<std::chrono::system_clock::time_point> parse_time(const std::string& text);
/// "name=value"
bool is_label(const std::string& text);

}  // namespace balloon::ctl
