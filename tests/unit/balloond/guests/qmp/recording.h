// SPDX-License-Identifier: Apache-2.0
// What a real QEMU 7.2 said (qemu-7.2.txt, by record.py): its lines, found by the command that they answer.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace balloon::daemon::qmp {

/// Every line of the recording, with its mark ("> ", "< ", "# ").
inline std::vector<std::string> recorded_lines() {
  std::ifstream file(QMP_RECORDING);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  EXPECT_FALSE(lines.empty()) << QMP_RECORDING << " cannot be read";
  return lines;
}

/// The line that answers the first command with `command` in it, after the comment that begins with `#
/// chapter`.
inline std::string recorded_line(std::string_view chapter, std::string_view command) {
  bool in_chapter = false;
  bool asked = false;
  for (const std::string& line : recorded_lines()) {
    if (line.starts_with('#')) in_chapter = line.substr(2).starts_with(chapter);
    if (in_chapter && line.starts_with('>')) asked = line.find(command) != std::string::npos;
    if (!asked || !line.starts_with('<')) continue;
    if (line.find("\"event\"") == std::string::npos) return line.substr(2);
  }
  ADD_FAILURE() << "no answer to " << command << " is recorded in '" << chapter << "'";
  return "{}";
}

/// What it returned.
inline nlohmann::json recorded(std::string_view chapter, std::string_view command) {
  return nlohmann::json::parse(recorded_line(chapter, command)).value("return", nlohmann::json());
}

}  // namespace balloon::daemon::qmp
