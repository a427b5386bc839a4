// SPDX-License-Identifier: Apache-2.0
// The little languages of single flags.
#include <fmt/format.h>

#include <charconv>
#include <functional>
#include <map>
#include <utility>

#include "vmm/machine/config.h"
#include "vmm/machine/flag_values.h"

namespace balloon::vmm {

Result<SerialConfig> parse_serial(std::string_view text) {
  using Kind = SerialConfig::Kind;
  if (text == "stdio" || text == "stdio,keys=escape") return SerialConfig{Kind::stdio, {}};
  if (text == "stdio,keys=signals") return SerialConfig{Kind::stdio, {}, SerialConfig::Keys::signals};
  if (text == "stdio,keys=raw") return SerialConfig{Kind::stdio, {}, SerialConfig::Keys::raw};
  if (text.starts_with("stdio,")) return fail(fmt::format("'{}': use keys=escape, signals or raw", text));
  if (text == "none") return SerialConfig{Kind::none, {}};
  if (text.starts_with("file:")) return SerialConfig{Kind::file, std::string(text.substr(5))};
  if (text.starts_with("unix:")) return SerialConfig{Kind::unix_socket, std::string(text.substr(5))};
  if (text == "pty") return SerialConfig{Kind::pty, {}};
  if (text.starts_with("pty:")) return SerialConfig{Kind::pty, std::string(text.substr(4))};
  return fail(fmt::format("'{}' is not one of stdio, none, pty, pty:LINK, file:PATH, unix:PATH", text));
}

Result<RngConfig> parse_rng(std::string_view text) {
  RngConfig rng;
  const auto set = [&](bool on) {
    return [&rng, on](std::string_view value) -> Result<void> {
      if (!value.empty()) return fail("'on' and 'off' take no value");
      rng.enabled = on;
      return {};
    };
  };
  BALLOON_TRY(parse_pairs(text, {{"on", set(true)},
                                 {"off", set(false)},
                                 {"bytes-per-second", [&](std::string_view value) -> Result<void> {
                                    const auto rate = parse_bytes(value);
                                    if (!rate) return std::unexpected(rate.error());
                                    rng.bytes_per_second = *rate;
                                    return {};
                                  }}}));
  return rng;
}

}  // namespace balloon::vmm
