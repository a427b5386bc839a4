// SPDX-License-Identifier: Apache-2.0
#include "balloond/api/reservation_calls.h"

#include <fmt/format.h>

#include "balloond/api/convert.h"
#include "balloond/api/durations.h"
#include "balloond/guests/registry.h"
#include "balloond/guests/sanitize.h"
#include "base/log.h"

namespace balloon::daemon {
namespace {

using Code = grpc::StatusCode;
using Kind = ReservationOutcome::Kind;

constexpr auto kForceIsForOperators =
    "force takes the role 'operate' (access in balloond.yaml). Anybody else sends the token that Reserve "
    "answered";

grpc::Status check_force(const ReservationCaller& caller, bool force) {
  return force && !caller.is_operator ? grpc::Status(Code::PERMISSION_DENIED, kForceIsForOperators)
                                      : grpc::Status::OK;
}

template <typename Request>
grpc::Status read_lease(const Request& request, std::optional<std::chrono::nanoseconds>& lease) {
  if (!request.has_lease()) return grpc::Status::OK;
  std::chrono::nanoseconds asked{};
  const auto status = read_duration(&request.lease(), {}, "lease", asked);
  if (status.ok()) lease = asked;
  return status;
}

/// `done`: the word for the log.
template <typename Request, typename Call>
void renew(const ReservationCaller& caller, const Request& request, v1::Reservation& out, const char* done,
           const Call& call) {
  std::optional<std::chrono::nanoseconds> lease;
  grpc::Status good = check_force(caller, request.force());
  if (good.ok()) good = read_lease(request, lease);
  if (!good.ok()) return caller.reactor->Finish(good);
  const auto tell = [reactor = caller.reactor, peer = caller.peer, done,
                     &out](const ReservationOutcome& outcome) {
    if (outcome.kind == Kind::granted || outcome.kind == Kind::joined) {
      out = reservation_to_proto(outcome.record);
      if (outcome.kind == Kind::joined) out.set_state(v1::RESERVATION_STATE_CONSUMED);
      log::info(source_of(peer), "reservation {}: {} by uid {} (process {})", outcome.record.wish.id, done,
                peer.uid, peer.pid);
      return reactor->Finish(grpc::Status::OK);
    }
    reactor->Finish({outcome.kind == Kind::unsaved ? Code::INTERNAL : Code::ABORTED, outcome.reason});
  };
  const auto asked = call(
      request.id(), ReservationBook::Claim{.token = request.token(), .force = request.force()}, lease, tell);
  if (!asked) caller.reactor->Finish(status_of(asked.error(), request.id()));
}

}  // namespace

grpc::Status status_of(const ReservationRefusal& refusal, const std::string& id) {
  switch (refusal.kind) {
    case ReservationRefusal::Kind::not_found:
      return {Code::NOT_FOUND, fmt::format("there is no reservation of the id '{}'", printable(id))};
    case ReservationRefusal::Kind::not_yours:
      return {Code::PERMISSION_DENIED, refusal.reason};
    case ReservationRefusal::Kind::wrong_state:
      return {Code::FAILED_PRECONDITION, fmt::format("reservation {}: {}", printable(id), refusal.reason)};
    case ReservationRefusal::Kind::taken:
      return {Code::ALREADY_EXISTS, refusal.reason};
    case ReservationRefusal::Kind::ended:
      return {Code::ABORTED, refusal.reason};
    case ReservationRefusal::Kind::too_many:
      return {Code::RESOURCE_EXHAUSTED, refusal.reason};
  }
  return {Code::INTERNAL, "unknown refusal"};
}

void get(const ReservationBook& book, const v1::GetReservationRequest& request,
         v1::GetReservationResponse& response, grpc::ServerUnaryReactor& reactor) {
  if (const auto record = book.find(request.id())) {
    *response.mutable_reservation() = reservation_to_proto(*record);
  } else if (const auto ended = book.find_ended(request.id())) {
    *response.mutable_reservation() = ended_to_proto(*ended);
  } else {
    return reactor.Finish(status_of({.kind = ReservationRefusal::Kind::not_found}, request.id()));
  }
  reactor.Finish(grpc::Status::OK);
}

void extend(const ReservationCaller& caller, const v1::ExtendReservationRequest& request,
            v1::ExtendReservationResponse& response) {
  renew(caller, request, *response.mutable_reservation(), "extended",
        [&](auto&&... arguments) { return caller.book.extend(arguments...); });
}

void commit(const ReservationCaller& caller, const v1::CommitReservationRequest& request,
            v1::CommitReservationResponse& response) {
  renew(caller, request, *response.mutable_reservation(), "committed",
        [&](auto&&... arguments) { return caller.book.commit(arguments...); });
}

void release(const ReservationCaller& caller, const v1::ReleaseReservationRequest& request) {
  if (const auto good = check_force(caller, request.force()); !good.ok()) return caller.reactor->Finish(good);
  const auto tell = [reactor = caller.reactor, peer = caller.peer, id = request.id(),
                     forced = request.force()](const ReservationOutcome& outcome) {
    if (outcome.kind == Kind::unsaved) return reactor->Finish({Code::INTERNAL, outcome.reason});
    log::info(source_of(peer), "reservation {}: released{} by uid {} (process {})", printable(id),
              forced ? " by force" : "", peer.uid, peer.pid);
    reactor->Finish(grpc::Status::OK);
  };
  const auto asked =
      caller.book.release(request.id(), {.token = request.token(), .force = request.force()}, tell);
  if (!asked) caller.reactor->Finish(status_of(asked.error(), request.id()));
}

}  // namespace balloon::daemon
