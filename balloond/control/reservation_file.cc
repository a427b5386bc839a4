// SPDX-License-Identifier: Apache-2.0
#include "balloond/control/reservation_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>

#include "balloon/state/v1/reservations.pb.h"
#include "balloond/control/state_file.h"
#include "balloond/guests/sanitize.h"
#include "base/bytes.h"
#include "base/files.h"
#include "base/log.h"

namespace balloon::daemon {
namespace {

namespace stored = balloon::state::v1;
using std::chrono::nanoseconds;

constexpr std::uint32_t kVersion = 2;
/// Without tokens and requests: what it has is read all the same.
constexpr std::uint32_t kVersionBefore = 1;
stored::Grant to_stored(const ReservationRecord& record) {
  stored::Grant out;
  out.set_id(record.wish.id);
  out.set_min_bytes(record.wish.min.count());
  out.set_max_bytes(record.wish.max.count());
  out.set_priority(record.wish.priority);
  out.set_granted_bytes(record.granted.count());
  put_time(*out.mutable_deadline(), record.deadline_wall.time_since_epoch());
  put_time(*out.mutable_lease(), record.wish.lease);
  put_time(*out.mutable_lease_until(), record.lease_until.time_since_epoch());
  put_time(*out.mutable_lease_until_since_boot(), record.lease_ends);
  out.set_token(record.token);
  out.set_request_id(record.wish.request_id);
  out.set_owner(record.wish.owner);
  out.set_uid(record.wish.uid);
  out.set_committed(record.committed);
  return out;
}

// reservations.proto, End, and what the book calls it.
struct Ending {
  stored::End stored;
  ReservationOutcome::Kind kind;
};
constexpr std::array kEndings{
    Ending{stored::END_CONSUMED, ReservationOutcome::Kind::joined},
    Ending{stored::END_RELEASED, ReservationOutcome::Kind::released},
    Ending{stored::END_EXPIRED, ReservationOutcome::Kind::lapsed},
};

stored::Ended to_stored(const EndedReservation& ended) {
  stored::Ended out;
  *out.mutable_grant() = to_stored(ended.outcome.record);
  const auto ending = std::ranges::find(kEndings, ended.outcome.kind, &Ending::kind);
  out.set_end(ending == kEndings.end() ? stored::END_RELEASED : ending->stored);
  put_time(*out.mutable_ended_at(), ended.at_wall.time_since_epoch());
  out.set_reason(ended.outcome.reason);
  return out;
}

Result<void> check(const stored::Grant& grant) {
  if (!is_guest_name(grant.id())) return fail("its id is not 1 to 64 characters of A-Z a-z 0-9 . _ -");
  if (grant.min_bytes() == 0 || grant.max_bytes() < grant.min_bytes() ||
      Bytes{grant.max_bytes()} > kReservationSizeMax)
    return fail("its sizes make no sense");
  if (grant.granted_bytes() < grant.min_bytes() || grant.granted_bytes() > grant.max_bytes())
    return fail("what is granted is not between its sizes");
  if (grant.priority() == 0 || grant.priority() > kReservationPriorityMax)
    return fail("its priority is out of range");
  if (!grant.has_deadline() || !grant.has_lease() || !grant.has_lease_until() ||
      !grant.has_lease_until_since_boot())
    return fail("one of its times is missing");
  if (grant.token().size() > kRequestIdMax || grant.request_id().size() > kRequestIdMax ||
      grant.owner().size() > kOwnerMax)
    return fail("its token, request_id or owner is too long");
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
                 .min = Bytes{grant.min_bytes()},
                 .max = Bytes{grant.max_bytes()},
                 .priority = grant.priority(),
                 .within = {},
                 .lease = *lease,
                 .request_id = grant.request_id(),
                 .owner = grant.owner(),
                 .uid = grant.uid()};
  record.since = at.now;
  record.token = grant.token();
  record.committed = grant.committed();
  record.deadline = at.now;
  record.deadline_wall = wall_at(*deadline);
  record.state = policy::GrantState::granted;
  record.granted = Bytes{grant.granted_bytes()};
  record.lease_ends = at.now + *left;
  record.lease_until = at.wall + std::chrono::duration_cast<WallTime::duration>(*left);
  return record;
}

Result<EndedReservation> from_stored(const stored::Ended& ended, bool same_boot, const Moment& at) {
  auto record = from_stored(ended.grant(), same_boot, at);
  if (!record) return std::unexpected(record.error());
  const auto when = take_time(ended.ended_at(), "ended_at");
  if (!when) return std::unexpected(when.error());
  const auto ending = std::ranges::find(kEndings, ended.end(), &Ending::stored);
  if (ending == kEndings.end()) return fail("how it ended is missing");
  // However the clock on the wall was set: it did not end in the future.
  const auto ago = std::max(nanoseconds(0), at.wall.time_since_epoch() - *when);
  return EndedReservation{
      .outcome = {.kind = ending->kind, .record = std::move(*record), .reason = printable(ended.reason())},
      .at = at.now - ago,
      .at_wall = wall_at(*when)};
}

Result<stored::Reservations> parse(std::string_view text) {
  stored::Reservations all;
  BALLOON_TRY(parse_state(text, std::array{kVersionBefore, kVersion}, all));
  if (static_cast<std::size_t>(all.grants_size()) > ReservationBook::kMost)
    return fail(
        fmt::format("it is damaged: {} grants are more than {}", all.grants_size(), ReservationBook::kMost));
  // As many again may have been on their way out when it was written.
  if (static_cast<std::size_t>(all.ended_size()) > EndedReservations::kMost + ReservationBook::kMost)
    return fail(fmt::format("it is damaged: {} ended grants are too many", all.ended_size()));
  return all;
}

}  // namespace

std::string write_reservations(const KeptReservations& kept, const std::string& boot) {
  stored::Reservations all;
  all.set_version(kVersion);
  all.set_boot_id(boot);
  for (const ReservationRecord& record : kept.grants) *all.add_grants() = to_stored(record);
  for (const EndedReservation& ended : kept.ended) *all.add_ended() = to_stored(ended);
  return state_text(all);
}

Result<KeptReservations> read_reservations(std::string_view text, const Moment& at) {
  const auto all = parse(text);
  if (!all) return std::unexpected(all.error());
  const bool same_boot = !at.boot.empty() && all->boot_id() == at.boot;
  KeptReservations kept;
  for (const stored::Ended& each : all->ended()) {
    auto ended = from_stored(each, same_boot, at);
    if (!ended)
      return fail(fmt::format("it is damaged: ended grant '{}'", printable(each.grant().id())),
                  ended.error());
    kept.ended.push_back(std::move(*ended));
  }
  std::set<std::string> ids;
  for (const stored::Grant& grant : all->grants()) {
    auto record = from_stored(grant, same_boot, at);
    if (!record) return fail(fmt::format("it is damaged: grant '{}'", printable(grant.id())), record.error());
    if (!ids.insert(grant.id()).second)
      return fail(fmt::format("it is damaged: grant '{}' is there twice", grant.id()));
    if (record->lease_ends > at.now) {
      kept.grants.push_back(std::move(*record));
      continue;
    }
    std::string why = fmt::format("its lease of {} has run out while balloond was not there",
                                  format_bytes(Bytes{grant.granted_bytes()}));
    log::info("reservation {}: {}", grant.id(), why);
    kept.ended.push_back({.outcome = {.kind = ReservationOutcome::Kind::lapsed,
                                      .record = std::move(*record),
                                      .reason = std::move(why)},
                          .at = at.now,
                          .at_wall = at.wall});
  }
  return kept;
}

ReservationFile::ReservationFile(const Clock& clock, std::string path, std::string boot)
    : clock_(clock), path_(std::move(path)), boot_(std::move(boot)) {}

Result<KeptReservations> ReservationFile::load() const {
  const auto text = read_file(path_, kSizeMax);
  if (!text) return fail("the reservations cannot be read", text.error());
  if (!*text) return {};
  auto all = read_reservations(**text, {.now = clock_.now(), .wall = clock_.wall(), .boot = boot_});
  if (all) return all;
  return refused_state(path_, all.error(), "it had granted nothing", "the reservations in it");
}

Result<void> ReservationFile::save(const KeptReservations& all) const {
  return save_state(path_, write_reservations(all, boot_), "reservations");
}

}  // namespace balloon::daemon
