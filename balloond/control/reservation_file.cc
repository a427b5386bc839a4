#include "balloond/control/reservation_file.h"

#include <fmt/format.h>
#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "balloon/state/v1/reservations.pb.h"
#include "balloond/guests/sanitize.h"
#include "base/bytes.h"
#include "base/files.h"
#include "base/log.h"

namespace balloon::daemon {
namespace {

namespace json = google::protobuf::util;
namespace stored = balloon::state::v1;
using std::chrono::nanoseconds;
using std::chrono::seconds;

constexpr std::uint32_t kVersion = 1;
/// The daemon's user and group: what guests are to be is nobody else's business.
constexpr mode_t kFileMode = 0640;
/// Year 2255: what is before it can be counted in nanoseconds.
constexpr std::int64_t kSecondsMax = 9'000'000'000;
constexpr std::int64_t kNanosMax = 999'999'999;

/// Timestamps and durations are alike.
template <typename Message>
void put_time(Message& out, nanoseconds time) {
  const auto whole = std::chrono::floor<seconds>(time);
  out.set_seconds(whole.count());
  out.set_nanos(static_cast<std::int32_t>((time - whole).count()));
}

template <typename Message>
Result<nanoseconds> take_time(const Message& sent, std::string_view what) {
  if (sent.seconds() < 0 || sent.seconds() > kSecondsMax || sent.nanos() < 0 || sent.nanos() > kNanosMax)
    return fail(fmt::format("its {} is out of range", what));
  return seconds(sent.seconds()) + nanoseconds(sent.nanos());
}

WallTime wall_at(nanoseconds since_epoch) {
  return WallTime(std::chrono::duration_cast<WallTime::duration>(since_epoch));
}

stored::Grant to_stored(const ReservationRecord& record) {
  stored::Grant out;
  out.set_id(record.wish.id);
  out.set_min_bytes(record.wish.min);
  out.set_max_bytes(record.wish.max);
  out.set_priority(record.wish.priority);
  out.set_granted_bytes(record.granted);
  put_time(*out.mutable_deadline(), record.deadline_wall.time_since_epoch());
  put_time(*out.mutable_lease(), record.wish.lease);
  put_time(*out.mutable_lease_until(), record.lease_until.time_since_epoch());
  put_time(*out.mutable_lease_until_since_boot(), record.lease_ends);
  return out;
}

Result<void> check(const stored::Grant& grant) {
  if (!is_guest_name(grant.id())) return fail("its id is not 1 to 64 characters of A-Z a-z 0-9 . _ -");
  if (grant.min_bytes() == 0 || grant.max_bytes() < grant.min_bytes() ||
      grant.max_bytes() > kReservationSizeMax)
    return fail("its sizes make no sense");
  if (grant.granted_bytes() < grant.min_bytes() || grant.granted_bytes() > grant.max_bytes())
    return fail("what is granted is not between its sizes");
  if (grant.priority() == 0 || grant.priority() > kReservationPriorityMax)
    return fail("its priority is out of range");
  if (!grant.has_deadline() || !grant.has_lease() || !grant.has_lease_until() ||
      !grant.has_lease_until_since_boot())
    return fail("one of its times is missing");
  return {};
}

/// What is left of its lease, perhaps nothing.
Result<nanoseconds> left_of(const stored::Grant& grant, nanoseconds lease, bool same_boot, const Moment& at) {
  const auto until = take_time(grant.lease_until(), "lease_until");
  if (!until) return until;
  const auto since_boot = take_time(grant.lease_until_since_boot(), "lease_until_since_boot");
  if (!since_boot) return since_boot;
  const nanoseconds left = same_boot ? *since_boot - at.now : *until - at.wall.time_since_epoch();
  return std::clamp(left, nanoseconds(0), lease);
}

Result<ReservationRecord> from_stored(const stored::Grant& grant, bool same_boot, const Moment& at) {
  BALLOON_TRY(check(grant));
  const auto deadline = take_time(grant.deadline(), "deadline");
  if (!deadline) return std::unexpected(deadline.error());
  const auto lease = take_time(grant.lease(), "lease");
  if (!lease) return std::unexpected(lease.error());
  if (*lease <= nanoseconds(0) || *lease > kLeaseMax) return fail("its lease is out of range");
  const auto left = left_of(grant, *lease, same_boot, at);
  if (!left) return std::unexpected(left.error());
  ReservationRecord record;
  record.wish = {.id = grant.id(),
                 .min = grant.min_bytes(),
                 .max = grant.max_bytes(),
                 .priority = grant.priority(),
                 .within = {},
                 .lease = *lease};
  record.since = at.now;
  record.deadline = at.now;
  record.deadline_wall = wall_at(*deadline);
  record.state = policy::GrantState::granted;
  record.granted = grant.granted_bytes();
  record.lease_ends = at.now + *left;
  record.lease_until = at.wall + std::chrono::duration_cast<WallTime::duration>(*left);
  return record;
}

/// A newer version may say more than this program knows, so the version is looked at first.
Result<stored::Reservations> parse(std::string_view text) {
  const std::string copy(text);
  json::JsonParseOptions lenient;
  lenient.ignore_unknown_fields = true;
  stored::Reservations all;
  const auto read = json::JsonStringToMessage(copy, &all, lenient);
  if (!read.ok()) return fail(fmt::format("it is damaged: {}", printable(read.ToString())));
  if (all.version() != kVersion) {
    return fail(fmt::format("it has version {} of the format, this program reads version {}", all.version(),
                            kVersion));
  }
  const auto strictly = json::JsonStringToMessage(copy, &all);
  if (!strictly.ok()) return fail(fmt::format("it is damaged: {}", printable(strictly.ToString())));
  if (static_cast<std::size_t>(all.grants_size()) > ReservationBook::kMost)
    return fail(
        fmt::format("it is damaged: {} grants are more than {}", all.grants_size(), ReservationBook::kMost));
  return all;
}

}  // namespace

std::string boot_id() {
  constexpr std::size_t kMost = 64;
  const auto text = read_file("/proc/sys/kernel/random/boot_id", kMost);
  if (!text || !*text) return {};
  return (*text)->substr(0, (*text)->find('\n'));
}

std::string write_reservations(const std::vector<ReservationRecord>& grants, const std::string& boot) {
  stored::Reservations all;
  all.set_version(kVersion);
  all.set_boot_id(boot);
  for (const ReservationRecord& record : grants) *all.add_grants() = to_stored(record);
  json::JsonPrintOptions options;
  options.add_whitespace = true;
  options.preserve_proto_field_names = true;
  std::string text;
  // Names and boot ids are ASCII and times are in range: nothing here can fail to be printed.
  if (!json::MessageToJsonString(all, &text, options).ok()) text.clear();
  return text;
}

Result<std::vector<ReservationRecord>> read_reservations(std::string_view text, const Moment& at) {
  const auto all = parse(text);
  if (!all) return std::unexpected(all.error());
  const bool same_boot = !at.boot.empty() && all->boot_id() == at.boot;
  std::vector<ReservationRecord> grants;
  std::set<std::string> ids;
  for (const stored::Grant& grant : all->grants()) {
    auto record = from_stored(grant, same_boot, at);
    if (!record) return fail(fmt::format("it is damaged: grant '{}'", printable(grant.id())), record.error());
    if (!ids.insert(grant.id()).second)
      return fail(fmt::format("it is damaged: grant '{}' is there twice", grant.id()));
    if (record->lease_ends > at.now) {
      grants.push_back(std::move(*record));
    } else {
      log::info("reservation {}: its lease of {} has run out while balloond was not there", grant.id(),
                format_bytes(grant.granted_bytes()));
    }
  }
  return grants;
}

ReservationFile::ReservationFile(const Clock& clock, std::string path, std::string boot)
    : clock_(clock), path_(std::move(path)), boot_(std::move(boot)) {}

Result<std::vector<ReservationRecord>> ReservationFile::load() const {
  const auto text = read_file(path_, kSizeMax);
  if (!text) return fail("the reservations cannot be read", text.error());
  if (!*text) return {};
  auto grants = read_reservations(**text, {.now = clock_.now(), .wall = clock_.wall(), .boot = boot_});
  if (grants) return grants;
  return fail(
      fmt::format("{}: {}. balloond does not start as if it had granted nothing: mend the file, or move "
                  "it away (mv {} {}.damaged), which ends the reservations in it",
                  path_, grants.error().message, path_, path_));
}

Result<void> ReservationFile::save(const std::vector<ReservationRecord>& grants) const {
  const std::string text = write_reservations(grants, boot_);
  if (text.empty()) return fail("the reservations cannot be put into JSON");
  BALLOON_TRY(make_directory(std::filesystem::path(path_).parent_path().string()));
  return replace_file(path_, text, kFileMode);
}

}  // namespace balloon::daemon
