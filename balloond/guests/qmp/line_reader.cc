// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/qmp/line_reader.h"

#include <fmt/format.h>

#include <utility>

namespace balloon::daemon::qmp {

Result<std::vector<std::string>> LineReader::feed(std::string_view bytes) {
  std::vector<std::string> lines;
  while (!bytes.empty()) {
    const auto end = bytes.find('\n');
    const std::string_view piece = bytes.substr(0, end);
    if (rest_.size() + piece.size() > kLineMax) {
      rest_.clear();
      return fail(fmt::format("a line is longer than {} KiB", kLineMax >> 10));
    }
    rest_ += piece;
    if (end == std::string_view::npos) break;
    bytes.remove_prefix(end + 1);
    std::string line = std::exchange(rest_, {});
    if (line.ends_with('\r')) line.pop_back();  // QEMU ends its lines with CR LF
    if (!line.empty()) lines.push_back(std::move(line));
  }
  return lines;
}

}  // namespace balloon::daemon::qmp
