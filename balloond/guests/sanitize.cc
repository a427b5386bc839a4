// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/sanitize.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <limits>

#include "base/bytes.h"
#include "base/pages.h"

namespace balloon::daemon {
namespace {

using std::chrono::nanoseconds;

constexpr std::size_t kNameMax = 64;  // guest_link.proto, Register.name
/// x86-64 processors have at most 52 physical address bits and most have 46; no guest of this VMM comes near.
constexpr Bytes kMemoryMax = 64 * kTiB;
/// Labels go to policy selectors and to a metric; more or longer ones are a mistake.
constexpr std::size_t kLabelsMax = 64;
constexpr std::size_t kLabelKeyMax = 64;
constexpr std::size_t kLabelValueMax = 256;
/// Of free text from a VMM (its version, why it refuses) more is not worth keeping.
constexpr std::size_t kTextMax = 200;
/// An older sample is as stale as one can be; bounds the arithmetic.
constexpr nanoseconds kAgeMax = std::chrono::hours(1);

bool is_name(std::string_view name, std::size_t longest) {
  return !name.empty() && name.size() <= longest && std::ranges::all_of(name, [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '_' || c == '-';
  });
}

bool is_label_key(std::string_view key) {
  std::string bare(key);
  std::erase(bare, '/');
  return key.size() <= kLabelKeyMax && is_name(bare, kLabelKeyMax);
}

/// The next character of `text`, which it is taken off; nothing when it is not UTF-8 (RFC 3629).
std::optional<char32_t> take_character(std::string_view& text) {
  const auto lead = static_cast<unsigned char>(text.front());
  const std::size_t size = lead < 0x80         ? 1
                           : lead >> 5 == 0x6  ? 2
                           : lead >> 4 == 0xe  ? 3
                           : lead >> 3 == 0x1e ? 4
                                               : 0;
  if (size == 0 || size > text.size()) return std::nullopt;
  char32_t code = size == 1 ? lead : lead & (0x7fU >> size);
  for (std::size_t i = 1; i < size; ++i) {
    const auto next = static_cast<unsigned char>(text[i]);
    if (next >> 6 != 0x2) return std::nullopt;
    code = code << 6 | (next & 0x3fU);
  }
  constexpr std::array<char32_t, 5> kLeast{0, 0, 0x80, 0x800,
                                           0x10000};  // longer than it need be is not UTF-8
  if (code < kLeast.at(size) || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) return std::nullopt;
  text.remove_prefix(size);
  return code;
}

/// Controls a terminal or its lines: C0, DEL and C1 (ECMA-48), line separators, what turns the direction of
/// writing or is not seen (Unicode Standard Annex 9, table 2; zero-width characters, the byte order mark).
bool is_control(char32_t code) {
  return code < 0x20 || (code >= 0x7f && code <= 0x9f) || code == 0xad || code == 0x61c ||
         (code >= 0x200b && code <= 0x200f) || (code >= 0x2028 && code <= 0x202e) ||
         (code >= 0x2060 && code <= 0x206f) || code == 0xfeff || (code >= 0xfff9 && code <= 0xfffb) ||
         (code >= 0xe0000 && code <= 0xe007f);
}

bool is_printable(std::string_view text) {
  while (!text.empty()) {
    const auto code = take_character(text);
    if (!code || is_control(*code)) return false;
  }
  return true;
}

Result<nanoseconds> age_of(const StatsSample& stats, WallTime wall) {
  if (!stats.sampled_at) return nanoseconds(0);
  if (*stats.sampled_at < WallTime()) return fail("its time is not a time");
  if (*stats.sampled_at >= wall) return nanoseconds(0);
  return std::min<nanoseconds>(wall - *stats.sampled_at, kAgeMax);
}

Result<void> check_sizes(const StatsSample& stats, Bytes memory) {
  const auto above = [](std::string_view part, Bytes bytes, std::string_view whole, Bytes limit) {
    return fail(fmt::format("{} {} is above {} {}", part, format_bytes(bytes), whole, format_bytes(limit)));
  };
  if (stats.actual > memory) return above("actual", stats.actual, "boot memory", memory);
  if (stats.actual == Bytes{0}) return fail("actual is 0");
  if (stats.total && *stats.total == Bytes{0}) return fail("total is 0");
  if (stats.total && *stats.total > memory) return above("total", *stats.total, "boot memory", memory);
  const Bytes limit = stats.total ? *stats.total : memory;
  const std::string_view whole = stats.total ? "total" : "boot memory";
  if (stats.available && *stats.available > limit) {
    return above("available", *stats.available, whole, limit);
  }
  if (stats.free && *stats.free > limit) return above("free", *stats.free, whole, limit);
  if (stats.disk_caches && *stats.disk_caches > limit) {
    return above("disk caches", *stats.disk_caches, whole, limit);
  }
  return {};
}

/// A counter that went back was reset or is a lie: it says nothing, and what else the guest says still
/// counts.
template <typename T>
void drop_if_back(std::optional<T>& now, const std::optional<T>& before) {
  if (now && *now < before.value_or(T{})) now.reset();
}

template <typename T>
void drop_if_unknown(std::optional<T>& value) {
  if (value == std::numeric_limits<T>::max()) value.reset();
}

}  // namespace

bool is_guest_name(std::string_view name) {
  // Names are files, metrics and arguments of commands for others: none is a directory or an option.
  return is_name(name, kNameMax) && name.front() != '.' && name.front() != '-';
}

std::string guest_name_of(std::string_view text) {
  std::string name(text.substr(0, kNameMax));
  for (char& c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '.' && c != '_' && c != '-') c = '_';
  }
  if (name.starts_with('.') || name.starts_with('-')) name.front() = '_';
  return name;
}

Result<void> check_registration(const Registration& registration) {
  if (!is_guest_name(registration.name)) {
    return fail(
        "the guest's name must be 1 to 64 characters of A-Z a-z 0-9 . _ -, and begin with none of . -");
  }
  const Bytes memory = registration.memory;
  if (memory == Bytes{0} || memory % kPageSize != Bytes{0} || memory > kMemoryMax) {
    return fail(fmt::format("boot memory of {} bytes must be a multiple of 4096, above 0 and at most 2^46",
                            memory.count()));
  }
  if (!registration.balloon) return fail("the state of the balloon is missing");
  if (registration.labels.size() > kLabelsMax) return fail(fmt::format("more than {} labels", kLabelsMax));
  for (const auto& [key, value] : registration.labels) {
    if (!is_label_key(key)) return fail("a label's name must be 1 to 64 characters of A-Z a-z 0-9 . _ - /");
    if (value.size() > kLabelValueMax || !is_printable(value)) {
      return fail(
          fmt::format("the value of label {} must be at most {} printable bytes", key, kLabelValueMax));
    }
  }
  return {};
}

bool clamp_balloon(BalloonState& balloon, Bytes memory) {
  const bool absurd = balloon.actual > memory || balloon.target > memory;
  balloon.actual = std::min(balloon.actual, memory);
  balloon.target = std::min(balloon.target, memory);
  return absurd;
}

std::string printable(std::string_view text) {
  std::string out(text.substr(0, kTextMax));
  for (char& c : out) {
    if (c < ' ' || c > '~') c = '?';  // plain ASCII: cutting can split nothing
  }
  return out;
}

void drop_unknown(StatsSample& stats) {
  for (auto* size : {&stats.swap_in, &stats.swap_out, &stats.free, &stats.total, &stats.available,
                     &stats.disk_caches, &stats.disk_read})
    drop_if_unknown(*size);
  for (auto* count : {&stats.major_faults, &stats.minor_faults, &stats.hugetlb_allocations,
                      &stats.hugetlb_failures, &stats.oom_kills, &stats.alloc_stalls, &stats.async_scans,
                      &stats.direct_scans, &stats.async_reclaims, &stats.direct_reclaims})
    drop_if_unknown(*count);
}

Result<policy::GuestStats> usable_stats(const StatsSample& stats, const StatsContext& context) {
  const auto age = age_of(stats, context.wall);
  if (!age) return std::unexpected(age.error());
  BALLOON_TRY(check_sizes(stats, context.memory));
  policy::GuestStats usable;
  usable.sampled_at = context.now - *age;
  usable.actual = stats.actual;
  usable.total = stats.total;
  usable.available = stats.available;
  usable.free = stats.free;
  usable.disk_caches = stats.disk_caches;
  usable.swap_in = stats.swap_in;
  usable.swap_out = stats.swap_out;
  usable.major_faults = stats.major_faults;
  usable.disk_read = stats.disk_read;
  usable.oom_kills = stats.oom_kills;
  usable.alloc_stalls = stats.alloc_stalls;
  usable.direct_scans = stats.direct_scans;
  usable.direct_reclaims = stats.direct_reclaims;
  if (context.previous != nullptr) {
    drop_if_back(usable.swap_in, context.previous->swap_in);
    drop_if_back(usable.swap_out, context.previous->swap_out);
    drop_if_back(usable.major_faults, context.previous->major_faults);
    // A disk that was unplugged takes its count with it.
    drop_if_back(usable.disk_read, context.previous->disk_read);
  }
  return usable;
}

}  // namespace balloon::daemon
