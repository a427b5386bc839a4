// SPDX-License-Identifier: Apache-2.0
#include "base/bytes.h"

#include <fmt/format.h>

#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <ostream>

namespace balloon {

Result<Bytes> parse_bytes(std::string_view text) {
  const auto refuse = [&](std::string_view why) {
    return fail(fmt::format("'{}' is not a size: {} (write for example 512MiB or 2GiB)", text, why));
  };
  double number = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (error != std::errc{} || !std::isfinite(number)) return refuse("it does not start with a number");
  if (number < 0) return refuse("it is negative");
  std::string unit;
  for (const char* c = end; c != text.data() + text.size(); ++c) {
    if (!std::isspace(static_cast<unsigned char>(*c)))
      unit += static_cast<char>(std::toupper(static_cast<unsigned char>(*c)));
  }
  if (unit.empty()) {
    if (number == 0) return Bytes{};
    return refuse("it has no unit");
  }
  if (unit.size() == 3 && unit.ends_with("IB")) unit.resize(1);
  double scale = 0;
  if (unit == "B") scale = 1;
  if (unit == "K") scale = static_cast<double>(kKiB);
  if (unit == "M") scale = static_cast<double>(kMiB);
  if (unit == "G") scale = static_cast<double>(kGiB);
  if (unit == "T") scale = static_cast<double>(1024 * kGiB);
  if (scale == 0) return refuse("its unit is not one of B, KiB, MiB, GiB, TiB");
  const double bytes = number * scale;
  if (bytes >= 0x1p62) return refuse("it is too large");
  return Bytes{static_cast<std::uint64_t>(std::llround(bytes))};
}

std::string format_bytes(Bytes bytes) {
  static constexpr std::array units{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  std::size_t unit = 0;
  double value = static_cast<double>(bytes);
  while (value >= 1024 && unit + 1 < units.size()) {
    value /= 1024;
    ++unit;
  }
  if (unit == 0 || value == std::floor(value)) return fmt::format("{:.0f} {}", value, units.at(unit));
  return fmt::format("{:.{}f} {}", value, value >= 100 ? 0 : value >= 10 ? 1 : 2, units.at(unit));
}

void PrintTo(Bytes bytes, std::ostream* out) {
  *out << format_bytes(bytes) << " (" << bytes.count() << " B)";
}

}  // namespace balloon
