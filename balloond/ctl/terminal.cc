// SPDX-License-Identifier: Apache-2.0
#include "balloond/ctl/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <string_view>

namespace balloon::ctl {
namespace {

/// A terminal that does not say its size has that of a VT100.
constexpr unsigned kColumns = 80;
constexpr unsigned kRows = 24;

}  // namespace

Terminal Terminal::of_output() {
  if (::isatty(STDOUT_FILENO) == 0) return {};
  winsize size{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0) size = {};
  const char* const no_color = std::getenv("NO_COLOR");  // https://no-color.org: present and not empty
  const char* const kind = std::getenv("TERM");
  const bool plain =
      (no_color != nullptr && *no_color != '\0') || (kind != nullptr && std::string_view(kind) == "dumb");
  return {.columns = size.ws_col == 0 ? kColumns : size.ws_col,
          .rows = size.ws_row == 0 ? kRows : size.ws_row,
          .colour = !plain};
}

}  // namespace balloon::ctl
