#include "balloond/guests/sanitize.h"

#include <fmt/format.h>
#include <google/protobuf/message.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <limits>

#include "base/bytes.h"

namespace balloon::daemon {
namespace {

using policy::Bytes;
using std::chrono::nanoseconds;

constexpr std::size_t kNameMax = 64;  // guest_link.proto, Register.name
/// x86-64 processors have at most 52 physical address bits and most have 46; no guest of this VMM comes near.
constexpr Bytes kMemoryMax = Bytes{1} << 46;
constexpr Bytes kPage = 4096;
/// Labels go to policy selectors and to a metric; more or longer ones are a mistake.
constexpr int kLabelsMax = 64;
constexpr std::size_t kLabelKeyMax = 64;
constexpr std::size_t kLabelValueMax = 256;
/// Of free text from a VMM (its version, why it refuses) more is not worth keeping.
constexpr std::size_t kTextMax = 200;
/// An older sample is as stale as one can be; bounds the arithmetic.
constexpr nanoseconds kAgeMax = std::chrono::hours(1);
/// Last second that a protobuf Timestamp may hold: 9999-12-31T23:59:59Z (google/protobuf/timestamp.proto).
constexpr std::int64_t kTimestampMax = 253'402'300'799;

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

Result<nanoseconds> age_of(const v1::GuestStats& stats, WallTime wall) {
  if (!stats.has_sampled_at()) return nanoseconds(0);
  const auto& sampled_at = stats.sampled_at();
  if (sampled_at.seconds() < 0 || sampled_at.seconds() > kTimestampMax || sampled_at.nanos() < 0 ||
      sampled_at.nanos() > 999'999'999) {
    return fail("its time is not a time");
  }
  const std::int64_t wall_seconds =
      std::chrono::duration_cast<std::chrono::seconds>(wall.time_since_epoch()).count();
  if (sampled_at.seconds() > wall_seconds + 1) return nanoseconds(0);
  if (wall_seconds - sampled_at.seconds() > std::chrono::duration_cast<std::chrono::seconds>(kAgeMax).count())
    return kAgeMax;
  const nanoseconds age =
      wall.time_since_epoch() - std::chrono::seconds(sampled_at.seconds()) - nanoseconds(sampled_at.nanos());
  return std::clamp(age, nanoseconds(0), kAgeMax);
}

Result<void> check_sizes(const v1::GuestStats& stats, Bytes memory) {
  const auto above = [](std::string_view part, Bytes bytes, std::string_view whole, Bytes limit) {
    return fail(fmt::format("{} {} is above {} {}", part, format_bytes(bytes), whole, format_bytes(limit)));
  };
  if (stats.actual_bytes() > memory) return above("actual", stats.actual_bytes(), "boot memory", memory);
  if (stats.actual_bytes() == 0) return fail("actual is 0");
  if (stats.has_total_bytes() && stats.total_bytes() == 0) return fail("total is 0");
  if (stats.has_total_bytes() && stats.total_bytes() > memory)
    return above("total", stats.total_bytes(), "boot memory", memory);
  const Bytes limit = stats.has_total_bytes() ? stats.total_bytes() : memory;
  const std::string_view whole = stats.has_total_bytes() ? "total" : "boot memory";
  if (stats.has_available_bytes() && stats.available_bytes() > limit) {
    return above("available", stats.available_bytes(), whole, limit);
  }
  if (stats.has_free_bytes() && stats.free_bytes() > limit)
    return above("free", stats.free_bytes(), whole, limit);
  if (stats.has_disk_caches_bytes() && stats.disk_caches_bytes() > limit) {
    return above("disk caches", stats.disk_caches_bytes(), whole, limit);
  }
  return {};
}

Result<void> check_counters(const v1::GuestStats& stats, const v1::GuestStats& previous) {
  const auto check = [](std::string_view counter, std::uint64_t now, std::uint64_t before) -> Result<void> {
    if (now < before) return fail(fmt::format("counter {} went back from {} to {}", counter, before, now));
    return {};
  };
  if (stats.has_swap_in_bytes())
    BALLOON_TRY(check("swap_in", stats.swap_in_bytes(), previous.swap_in_bytes()));
  if (stats.has_swap_out_bytes())
    BALLOON_TRY(check("swap_out", stats.swap_out_bytes(), previous.swap_out_bytes()));
  if (stats.has_major_faults())
    BALLOON_TRY(check("major_faults", stats.major_faults(), previous.major_faults()));
  return {};
}

}  // namespace

bool is_guest_name(std::string_view name) {
  // Names are files, metrics and arguments of commands for others: none is a directory or an option.
  return is_name(name, kNameMax) && name.front() != '.' && name.front() != '-';
}

Result<void> check_registration(const v1::Register& registration) {
  if (!is_guest_name(registration.name())) {
    return fail(
        "the guest's name must be 1 to 64 characters of A-Z a-z 0-9 . _ -, and begin with none of . -");
  }
  const Bytes memory = registration.memory_bytes();
  if (memory == 0 || memory % kPage != 0 || memory > kMemoryMax) {
    return fail(
        fmt::format("boot memory of {} bytes must be a multiple of 4096, above 0 and at most 2^46", memory));
  }
  if (!registration.has_balloon()) return fail("the state of the balloon is missing");
  if (registration.labels_size() > kLabelsMax) return fail(fmt::format("more than {} labels", kLabelsMax));
  for (const auto& [key, value] : registration.labels()) {
    if (!is_label_key(key)) return fail("a label's name must be 1 to 64 characters of A-Z a-z 0-9 . _ - /");
    if (value.size() > kLabelValueMax || !is_printable(value)) {
      return fail(
          fmt::format("the value of label {} must be at most {} printable bytes", key, kLabelValueMax));
    }
  }
  return {};
}

bool clamp_balloon(v1::BalloonUpdate& balloon, Bytes memory) {
  const bool absurd = balloon.actual_bytes() > memory || balloon.target_bytes() > memory;
  balloon.set_actual_bytes(std::min<Bytes>(balloon.actual_bytes(), memory));
  balloon.set_target_bytes(std::min<Bytes>(balloon.target_bytes(), memory));
  return absurd;
}

std::string printable(std::string_view text) {
  std::string out(text.substr(0, kTextMax));
  for (char& c : out) {
    if (c < ' ' || c > '~') c = '?';  // plain ASCII: cutting can split nothing
  }
  return out;
}

void drop_unknown(v1::GuestStats& stats) {
  const auto* reflection = stats.GetReflection();
  const auto* descriptor = stats.GetDescriptor();
  for (int i = 0; i < descriptor->field_count(); ++i) {
    const auto* field = descriptor->field(i);
    if (field->cpp_type() != google::protobuf::FieldDescriptor::CPPTYPE_UINT64 || !field->has_presence())
      continue;
    if (reflection->HasField(stats, field) &&
        reflection->GetUInt64(stats, field) == std::numeric_limits<std::uint64_t>::max()) {
      reflection->ClearField(&stats, field);
    }
  }
}

Result<policy::GuestStats> usable_stats(const v1::GuestStats& stats, const StatsContext& context) {
  const auto age = age_of(stats, context.wall);
  if (!age) return std::unexpected(age.error());
  BALLOON_TRY(check_sizes(stats, context.memory));
  if (context.previous != nullptr) BALLOON_TRY(check_counters(stats, *context.previous));
  policy::GuestStats usable;
  usable.sampled_at = context.now - *age;
  usable.actual = stats.actual_bytes();
  if (stats.has_total_bytes()) usable.total = stats.total_bytes();
  if (stats.has_available_bytes()) usable.available = stats.available_bytes();
  if (stats.has_free_bytes()) usable.free = stats.free_bytes();
  if (stats.has_disk_caches_bytes()) usable.disk_caches = stats.disk_caches_bytes();
  if (stats.has_swap_in_bytes()) usable.swap_in = stats.swap_in_bytes();
  if (stats.has_swap_out_bytes()) usable.swap_out = stats.swap_out_bytes();
  if (stats.has_major_faults()) usable.major_faults = stats.major_faults();
  if (stats.has_oom_kills()) usable.oom_kills = stats.oom_kills();
  if (stats.has_alloc_stalls()) usable.alloc_stalls = stats.alloc_stalls();
  if (stats.has_direct_scans()) usable.direct_scans = stats.direct_scans();
  if (stats.has_direct_reclaims()) usable.direct_reclaims = stats.direct_reclaims();
  return usable;
}

}  // namespace balloon::daemon
