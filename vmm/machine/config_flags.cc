// The little languages of single flags: key=value lists, MAC addresses.
#include <fmt/format.h>

#include <charconv>
#include <functional>
#include <map>
#include <utility>

#include "vmm/machine/config.h"

namespace balloon::vmm {
namespace {

/// Takes "a=1,b,c=2" apart and calls the setter of each key. A key without '=' has an empty value.
using Setter = std::function<Result<void>(std::string_view value)>;
Result<void> parse_pairs(std::string_view text, const std::map<std::string_view, Setter>& setters) {
  if (text.empty()) return fail("the value is empty");
  std::map<std::string_view, bool> seen;
  for (std::size_t start = 0; start <= text.size();) {
    const std::size_t comma = std::min(text.find(',', start), text.size());
    const std::string_view part = text.substr(start, comma - start);
    start = comma + 1;
    const std::size_t equals = part.find('=');
    const std::string_view key = part.substr(0, equals);
    const std::string_view value =
        equals == std::string_view::npos ? std::string_view{} : part.substr(equals + 1);
    const auto setter = setters.find(key);
    if (setter == setters.end()) {
      std::string known;
      for (const auto& [name, set] : setters) known += fmt::format("{}{}", known.empty() ? "" : ", ", name);
      return fail(fmt::format("'{}' in '{}' is unknown: use {}", key, text, known));
    }
    if (std::exchange(seen[key], true)) return fail(fmt::format("'{}' is there twice in '{}'", key, text));
    BALLOON_TRY(setter->second(value));
  }
  return {};
}

Setter to_string(std::string& into, std::string_view key) {
  return [&into, key](std::string_view value) -> Result<void> {
    if (value.empty()) return fail(fmt::format("'{}' needs a value", key));
    into = value;
    return {};
  };
}

Setter to_switch(bool& into, std::string_view key) {
  return [&into, key](std::string_view value) -> Result<void> {
    if (value != "on" && value != "off") return fail(fmt::format("{}={}: use on or off", key, value));
    into = value == "on";
    return {};
  };
}

}  // namespace

Result<BlockConfig> parse_disk(std::string_view text) {
  BlockConfig disk;
  BALLOON_TRY(parse_pairs(text, {{"path", to_string(disk.path, "path")},
                                 {"serial", to_string(disk.serial, "serial")},
                                 {"readonly", [&](std::string_view value) -> Result<void> {
                                    if (value.empty()) return disk.read_only = true, Result<void>{};
                                    return to_switch(disk.read_only, "readonly")(value);
                                  }}}));
  if (disk.path.empty()) return fail(fmt::format("'{}' has no path=", text));
  return disk;
}

Result<NetConfig> parse_net(std::string_view text) {
  NetConfig net;
  BALLOON_TRY(parse_pairs(
      text, {{"tap", to_string(net.tap, "tap")}, {"mac", [&](std::string_view value) -> Result<void> {
                                                    auto mac = parse_mac(value);
                                                    if (!mac) return std::unexpected(mac.error());
                                                    net.mac = *mac;
                                                    return {};
                                                  }}}));
  if (net.tap.empty()) return fail(fmt::format("'{}' has no tap=", text));
  return net;
}

Result<SerialConfig> parse_serial(std::string_view text) {
  using Kind = SerialConfig::Kind;
  if (text == "stdio") return SerialConfig{Kind::stdio, {}};
  if (text == "none") return SerialConfig{Kind::none, {}};
  if (text.starts_with("file:")) return SerialConfig{Kind::file, std::string(text.substr(5))};
  if (text.starts_with("unix:")) return SerialConfig{Kind::unix_socket, std::string(text.substr(5))};
  if (text == "pty") return SerialConfig{Kind::pty, {}};
  if (text.starts_with("pty:")) return SerialConfig{Kind::pty, std::string(text.substr(4))};
  return fail(fmt::format("'{}' is not one of stdio, none, pty, pty:LINK, file:PATH, unix:PATH", text));
}

Result<MacAddress> parse_mac(std::string_view text) {
  const auto refuse = [&](std::string_view why) {
    return fail(
        fmt::format("'{}' is not a MAC address: {} (write for example 52:54:00:12:34:56)", text, why));
  };
  constexpr std::size_t kLength = 6 * 2 + 5;
  if (text.size() != kLength) return refuse("it needs six bytes with colons between");
  MacAddress mac{};
  bool zero = true;
  for (std::size_t i = 0; i < mac.size(); ++i) {
    const char* start = text.data() + i * 3;
    const auto [end, error] = std::from_chars(start, start + 2, mac[i], 16);
    if (error != std::errc{} || end != start + 2) return refuse("a byte is two hexadecimal digits");
    if (i + 1 < mac.size() && *end != ':') return refuse("it needs six bytes with colons between");
    zero = zero && mac[i] == 0;
  }
  if ((mac[0] & 1) != 0) return refuse("it is a multicast address");
  if (zero) return refuse("it is zero");
  return mac;
}

Result<void> parse_balloon(std::string_view text, BalloonConfig& config) {
  return parse_pairs(text,
                     {{"target",
                       [&](std::string_view value) -> Result<void> {
                         const auto target = parse_bytes(value);
                         if (!target) return std::unexpected(target.error());
                         if (*target == 0) return fail("target=0 would leave the guest nothing");
                         config.initial_target = *target;
                         return {};
                       }},
                      {"deflate-on-oom", to_switch(config.deflate_on_oom, "deflate-on-oom")},
                      {"free-page-reporting", to_switch(config.free_page_reporting, "free-page-reporting")}});
}

}  // namespace balloon::vmm
