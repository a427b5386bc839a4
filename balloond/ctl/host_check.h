// SPDX-License-Identifier: Apache-2.0
// `balloonctl host check`: what this host has of what guests and their VMMs need, and what to do about the
// rest.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "balloond/ctl/terminal.h"

namespace balloon::ctl {

struct Check {
  enum class State {
    ok,
    note,     ///< works, but could be better, or some guests cannot have something
    problem,  ///< guests do not run, or the host is not safe with them
  };
  std::string name;
  State state = State::ok;
  std::string found;   ///< what there is
  std::string advice;  ///< what to do; empty when ok
};

/// Where to look; tests give a tree of their own.
struct HostView {
  std::string root;  ///< in front of /proc and /sys
  /// Opens a device to read and write it and asks it who it is: 0, or the error number.
  std::function<int(const std::string& device)> probe;
  /// Asks an interface (SIOCETHTOOL) for one of the ETHTOOL_G* switches; nothing when it has none.
  std::function<std::optional<bool>(const std::string& interface, unsigned command)> offload;
  std::optional<std::string> interface;  ///< unset: that of the default route

  static HostView real();
};

std::vector<Check> check_host(const HostView& host);
bool has_problem(const std::vector<Check>& checks);

/// One line a check, what to do below it.
std::string check_table(const std::vector<Check>& checks, const Terminal& terminal);
nlohmann::ordered_json json_of(const std::vector<Check>& checks);

}  // namespace balloon::ctl
