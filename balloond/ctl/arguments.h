// SPDX-License-Identifier: Apache-2.0
// What a command line of balloonctl says.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "balloond/ctl/import.h"
#include "balloond/ctl/output.h"
#include "balloond/ctl/policy.h"
#include "balloond/ctl/top/top.h"
#include "policy/sim/replay_command.h"

namespace balloon::ctl {

struct Arguments {
  std::string socket = "/run/balloond/balloond.sock";
  std::string output = "table";
  bool no_headings = false;
  std::string timeout = "5s";
  std::string guest{};
  std::string size{};
  std::string merging{};
  std::string duration{};
  std::string id{};
  std::string max{};
  std::string within = "1m";
  std::string lease{};
  std::uint32_t priority = 100;
  std::string request_id{};
  std::string owner{};
  bool detach = false;
  std::string token{};
  std::vector<std::string> sizes{};
  bool force = false;
  PolicyArguments policy{};
  ImportArguments import{};
  policy::sim::ReplayArguments replay{};
  std::string interface{};
  top::Choice top{};
  std::uint64_t count = 0;  ///< states that a watch shows; 0: until it is stopped
};

class Commands;
using Command = int (Commands::*)();

/// The command to run, or the exit status with which to end at once. Says why.
struct CommandLine {
  Arguments arguments{};
  Command command = nullptr;
  std::optional<int> exit_status{};
};
CommandLine parse_command_line(int argc, const char* const* argv);

/// "500ms", "30s", "10m", "1h"; more than 0.
std::optional<std::chrono::nanoseconds> parse_duration(const std::string& text);

/// "table", "wide", "json", "yaml"
Format format_of(const std::string& output);

}  // namespace balloon::ctl
