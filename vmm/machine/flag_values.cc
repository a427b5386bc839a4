// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/flag_values.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

namespace balloon::vmm {
namespace {

/// Takes the text up to the next comma that stands alone; two of them are one in a value.
std::string take_part(std::string_view& text) {
  std::string part;
  std::size_t at = 0;
  for (; at < text.size(); ++at) {
    if (text[at] == ',' && !text.substr(at + 1).starts_with(',')) break;
    if (text[at] == ',') ++at;
    part += text[at];
  }
  text.remove_prefix(std::min(at + 1, text.size()));
  return part;
}

}  // namespace

Result<void> parse_pairs(std::string_view text, const std::map<std::string_view, Setter>& setters) {
  if (text.empty()) return fail("the value is empty");
  std::map<std::string_view, bool> seen;
  const bool ends_with_comma = text.ends_with(',') && !text.ends_with(",,");
  std::string_view left = text;
  while (!left.empty() || (ends_with_comma && !seen.empty())) {
    const std::string whole = take_part(left);
    const std::string_view part = whole;
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
    if (std::exchange(seen[setter->first], true))
      return fail(fmt::format("'{}' is there twice in '{}'", key, text));
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

Setter to_number(std::uint32_t& into, std::string_view key) {
  return [&into, key](std::string_view value) -> Result<void> {
    std::uint32_t number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (value.empty() || error != std::errc{} || end != value.data() + value.size())
      return fail(fmt::format("{}={}: that is not a whole number", key, value));
    into = number;
    return {};
  };
}

Setter to_bytes(Bytes& into, std::string_view key) {
  return [&into, key](std::string_view value) -> Result<void> {
    const auto bytes = parse_bytes(value);
    if (!bytes) return fail(std::string(key), bytes.error());
    into = *bytes;
    return {};
  };
}

}  // namespace balloon::vmm
