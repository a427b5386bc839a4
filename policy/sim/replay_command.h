// SPDX-License-Identifier: Apache-2.0
// `balloon-sim replay` and `balloonctl replay`: one command, with two doors to it.
#pragma once

#include <string>

namespace balloon::policy::sim {

struct ReplayArguments {
  std::string path{};            ///< file or directory
  std::string policy{};          ///< policy file that decides; empty: none
  std::string law{};             ///< control law that decides; empty: none
  std::string guest{};           ///< only this one; empty: all
  std::string output = "table";  ///< or json, csv
};

/// Exit codes, beside those of the program.
inline constexpr int kReplayUnreadable = 1;
inline constexpr int kReplayUsage = 2;
/// The recording was decided again as it had been, and the plans are not the same.
inline constexpr int kReplayDifferent = 3;

/// Does it and prints what came of it; complaints go to standard error after `program`. Returns the exit
/// code.
int run_replay(const ReplayArguments& arguments, const char* program);

}  // namespace balloon::policy::sim
