// SPDX-License-Identifier: Apache-2.0
#include "balloond/host/pressure.h"

#include <charconv>

namespace balloon::daemon {

PressureLine parse_pressure(std::string_view text, std::string_view kind) {
  PressureLine pressure;
  const std::size_t start = text.find(kind);
  if (start == std::string_view::npos) return pressure;
  const std::string_view line = text.substr(start, text.find('\n', start) - start);
  const auto read = [line](std::string_view key, auto& out) {
    const std::size_t at = line.find(key);
    if (at != std::string_view::npos)
      std::from_chars(line.data() + at + key.size(), line.data() + line.size(), out);
  };
  read("avg10=", pressure.avg10);
  read("total=", pressure.total_micros);
  pressure.avg10 /= 100;
  return pressure;
}

}  // namespace balloon::daemon
