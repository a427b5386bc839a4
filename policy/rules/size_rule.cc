// SPDX-License-Identifier: Apache-2.0
#include "policy/rules/size_rule.h"

#include <fmt/format.h>

#include <charconv>

#include "base/pages.h"

namespace balloon::policy::rules {
namespace {

constexpr std::string_view kLinuxFloor = "linux-floor";

}  // namespace

Bytes linux_floor(Bytes memory) {
  if (memory < 128 * kMiB) return 8 * kMiB + memory / 2;
  if (memory < 512 * kMiB) return 40 * kMiB + memory / 4;
  if (memory < 2 * kGiB) return 104 * kMiB + memory / 8;
  if (memory < 8 * kGiB) return 232 * kMiB + memory / 16;
  return 488 * kMiB + memory / 32;
}

Bytes SizeRule::of(Bytes memory) const {
  if (linux_floor) return rules::linux_floor(memory);
  return ratio != 0 ? static_cast<Bytes>(ratio * static_cast<double>(memory)) : bytes;
}

std::string exact_bytes(Bytes bytes) {
  if (bytes != Bytes{0} && bytes % kGiB == Bytes{0}) return fmt::format("{} GiB", bytes / kGiB);
  if (bytes != Bytes{0} && bytes % kMiB == Bytes{0}) return fmt::format("{} MiB", bytes / kMiB);
  if (bytes != Bytes{0} && bytes % kKiB == Bytes{0}) return fmt::format("{} KiB", bytes / kKiB);
  return fmt::format("{} B", bytes.count());
}

std::string describe(const SizeRule& rule) {
  if (rule.linux_floor) return std::string(kLinuxFloor);
  return rule.ratio != 0 ? fmt::format("{:.10g}%", rule.ratio * 100) : exact_bytes(rule.bytes);
}

bool read_percent(const yaml::Value& value, std::string_view whole, double most, double& out) {
  std::string text;
  if (!value.read(text)) return false;
  double percent = 0;
  const char* const last = text.data() + text.size() - (text.ends_with('%') ? 1 : 0);
  const auto [end, error] = std::from_chars(text.data(), last, percent, std::chars_format::fixed);
  if (!text.ends_with('%') || error != std::errc{} || end != last || !(percent > 0 && percent <= most)) {
    value.complain(
        fmt::format("'{}' is not a share of {}: it must be above 0% and at most {:g}%", text, whole, most));
    return false;
  }
  out = percent / 100;
  return true;
}

void read_size_rule(const yaml::Value& value, const SizeWords& words, SizeRule& out) {
  std::string text;
  if (!value.read(text)) return;
  if (text == kLinuxFloor) {
    if (!words.floor)
      return value.complain(
          fmt::format("{} is a minimum of guests; write a size or a share of {}", text, words.whole));
    out = SizeRule{.linux_floor = true};
    return;
  }
  if (text.ends_with('%')) {
    double ratio = 0;
    if (read_percent(value, words.whole, 100, ratio)) out = SizeRule{.ratio = ratio};
    return;
  }
  const auto bytes = parse_bytes(text);
  if (!bytes) {
    return value.complain(fmt::format("{}, {}a share of {} such as 50%{}", bytes.error().message,
                                      words.floor ? "" : "or ", words.whole,
                                      words.floor ? ", or linux-floor" : ""));
  }
  if (*bytes < kPageSize) return value.complain("it must be at least one page (4 KiB)");
  out = SizeRule{.bytes = *bytes};
}

}  // namespace balloon::policy::rules
