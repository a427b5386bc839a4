// SPDX-License-Identifier: Apache-2.0
#include "balloond/needs/need_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <functional>
#include <optional>

#include "balloon/state/v1/needs.pb.h"
#include "balloond/guests/sanitize.h"
#include "base/files.h"

namespace balloon::daemon {
namespace {

namespace fs = std::filesystem;
namespace stored = balloon::state::v1;

constexpr std::uint32_t kVersion = 1;
constexpr std::string_view kEnd = ".needs";
/// The daemon's user and group: what guests need is nobody else's business.
constexpr mode_t kFileMode = 0640;

/// "2026-11-29"
std::string name_of(Day day) {
  const std::chrono::year_month_day date(day);
  return fmt::format("{:04}-{:02}-{:02}", static_cast<int>(date.year()), static_cast<unsigned>(date.month()),
                     static_cast<unsigned>(date.day()));
}

std::optional<int> number(std::string_view text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<Day> day_of(std::string_view file) {
  if (!file.ends_with(kEnd) || file.size() != kEnd.size() + 10) return std::nullopt;
  const auto year = number(file.substr(0, 4)), month = number(file.substr(5, 2)),
             day = number(file.substr(8, 2));
  if (!year || !month || !day) return std::nullopt;
  const std::chrono::year_month_day date{std::chrono::year(*year),
                                         std::chrono::month(static_cast<unsigned>(*month)),
                                         std::chrono::day(static_cast<unsigned>(*day))};
  if (!date.ok() || name_of(date) != file.substr(0, 10)) return std::nullopt;
  return Day(date);
}

Result<NeedHistogram> histogram_of(const stored::NeedsOfGuest& kept) {
  if (kept.size_steps_size() != kept.seconds_size()) return fail("it has not as many sizes as times");
  std::vector<NeedHistogram::Bucket> buckets;
  std::uint64_t size = 0;
  for (int i = 0; i < kept.size_steps_size(); ++i) {
    size += kept.size_steps(i);
    if (size >= NeedHistogram::kSizes) return fail("one of its sizes is none");
    buckets.push_back({.size = static_cast<std::uint16_t>(size), .seconds = kept.seconds(i)});
  }
  auto histogram = NeedHistogram::from(buckets, Bytes{kept.max_bytes()});
  if (!histogram || histogram->seconds() > 2 * std::uint64_t{NeedHistory::kSecondsOfDay})
    return fail("its histogram makes no sense");
  return *std::move(histogram);
}

}  // namespace

std::string write_needs(const DayOfNeeds& needs) {
  stored::NeedsOfDay out;
  out.set_version(kVersion);
  out.set_day(static_cast<std::uint32_t>(needs.day.time_since_epoch().count()));
  for (const auto& [name, histogram] : needs.guests) {
    stored::NeedsOfGuest& guest = *out.add_guests();
    guest.set_name(name);
    guest.set_max_bytes(histogram.max().count());
    std::uint16_t before = 0;
    for (const NeedHistogram::Bucket& each : histogram.buckets()) {
      guest.add_size_steps(static_cast<std::uint32_t>(each.size - std::exchange(before, each.size)));
      guest.add_seconds(each.seconds);
    }
  }
  return out.SerializeAsString();
}

Result<DayOfNeeds> read_needs(std::string_view text) {
  stored::NeedsOfDay kept;
  if (!kept.ParseFromArray(text.data(), static_cast<int>(text.size()))) return fail("it is damaged");
  if (kept.version() != kVersion) {
    return fail(fmt::format("it has version {} of the format, this program reads version {}", kept.version(),
                            kVersion));
  }
  if (static_cast<std::size_t>(kept.guests_size()) > NeedHistory::kGuestsOfDay)
    return fail(fmt::format("it is damaged: {} guests are too many", kept.guests_size()));
  DayOfNeeds needs{.day = Day(std::chrono::days(kept.day()))};
  for (const stored::NeedsOfGuest& guest : kept.guests()) {
    auto histogram = histogram_of(guest);
    if (!histogram || !is_guest_name(guest.name())) {
      return fail(fmt::format("it is damaged: guest '{}'{}{}", printable(guest.name()), histogram ? "" : ": ",
                              histogram ? "" : histogram.error().message));
    }
    if (!needs.guests.emplace(guest.name(), std::move(*histogram)).second)
      return fail(fmt::format("it is damaged: guest '{}' is there twice", guest.name()));
  }
  return needs;
}

std::string NeedFiles::path_of(Day day) const {
  return fmt::format("{}/{}{}", directory_, name_of(day), kEnd);
}

std::vector<Day> NeedFiles::days() const {
  std::vector<Day> days;
  std::error_code error;
  for (auto entry = fs::directory_iterator(directory_, error); !error && entry != fs::directory_iterator();
       entry.increment(error)) {
    if (const auto day = day_of(entry->path().filename().string())) days.push_back(*day);
  }
  std::ranges::sort(days, std::ranges::greater());
  return days;
}

Result<DayOfNeeds> NeedFiles::load(Day day) const {
  const std::string path = path_of(day);
  const auto text = read_file(path, kSizeMax);
  if (!text) return std::unexpected(text.error());
  if (!*text) return fail(fmt::format("{} is gone", path));
  auto needs = read_needs(**text);
  if (needs && needs->day != day) needs = fail("it is another day's");
  if (!needs) return fail(fmt::format("{}: {}", path, needs.error().message));
  return needs;
}

Result<void> NeedFiles::save(const DayOfNeeds& needs) const {
  BALLOON_TRY(make_directory(directory_));
  return replace_file(path_of(needs.day), write_needs(needs), kFileMode);
}

void NeedFiles::set_aside(Day day) const {
  std::error_code error;
  fs::rename(path_of(day), path_of(day) + ".damaged", error);
}

void NeedFiles::prune() const {
  const std::vector<Day> all = days();
  std::error_code error;
  for (std::size_t i = NeedHistory::kDays; i < all.size(); ++i) fs::remove(path_of(all[i]), error);
}

}  // namespace balloon::daemon
