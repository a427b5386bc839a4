// SPDX-License-Identifier: Apache-2.0
// Rows and columns as text that fits the terminal. libsmartcols lays them out.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "balloond/ctl/terminal.h"

namespace balloon::ctl {

struct Column {
  const char* name;
  bool right = false;    ///< numbers
  bool shorten = false;  ///< names: where the terminal is narrow, their middle is left out
  int rank = 0;          ///< the highest is left out first where the terminal is narrow; 0: never
};

struct Cell {
  std::string text;
  const char* colour = nullptr;  ///< an escape sequence
};

struct Look {
  Terminal terminal{};
  bool headings = true;
  bool wide = false;  ///< nothing is left out or shortened
};

std::string lay_out(std::vector<Column> columns, std::vector<std::vector<Cell>> rows, const Look& look);

/// "KEY:  value", values aligned; a long one goes on below itself.
std::string lay_out_values(const std::vector<std::pair<std::string, std::string>>& values,
                           const Terminal& terminal);

/// Broken at spaces into lines of `columns` at most (0: not broken), all but the first indented.
std::string wrap(std::string_view text, unsigned columns, unsigned indent = 0);

/// The middle left out, so that it has `width` characters at most: "web-pro..-17".
std::string shorten(const std::string& text, std::size_t width);

}  // namespace balloon::ctl
