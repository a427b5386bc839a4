// SPDX-License-Identifier: Apache-2.0
// Command lines, alike in every program: help and version go to standard output, a wrong word is named and
// the right one suggested.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace CLI {
class App;
}

namespace balloon::command_line {

inline constexpr int kExitFailure = 1;
inline constexpr int kExitUsage = 2;

/// A command of another tool, and what has its place here.
struct Foreign {
  std::string_view word;
  std::string_view ours;  ///< "list: balloonctl list"
};

/// What is to be said instead of going on.
struct Stop {
  bool good = false;  ///< help or version was asked for
  std::string text;   ///< that, or the complaint, on one line
};

/// Nothing when the program is to go on.
std::optional<Stop> parse(CLI::App& app, int argc, const char* const* argv,
                          std::span<const Foreign> foreign = {});

/// Says it and returns the exit status: 0, 1 when that could not be written, or 2.
int say(const Stop& stop, std::string_view program);

/// `status`, or 1 with a complaint when what was printed could not be written.
int finish(int status, std::string_view program);

}  // namespace balloon::command_line
