// SPDX-License-Identifier: Apache-2.0
#include "balloond/api/scheduler_service.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <iterator>
#include <map>

#include "balloond/api/convert.h"
#include "balloond/api/durations.h"
#include "balloond/api/page.h"
#include "balloond/api/reserve_call.h"
#include "balloond/guests/sanitize.h"
#include "base/bytes.h"
#include "base/log.h"
#include "base/pages.h"

namespace balloon::daemon {
namespace {

using std::chrono::nanoseconds;

constexpr nanoseconds kPinDefault = std::chrono::minutes(10);  // scheduler.proto, SetTargetRequest.duration

grpc::ServerUnaryReactor* answer(grpc::CallbackServerContext* context, const grpc::Status& status) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  reactor->Finish(status);
  return reactor;
}

grpc::Status not_found(const std::string& name) {
  return {grpc::StatusCode::NOT_FOUND, fmt::format("there is no guest named '{}'", printable(name))};
}

grpc::Status bad_page_token() {
  return {grpc::StatusCode::INVALID_ARGUMENT, "the page_token is none that this call answered"};
}

const std::string& name_of(const GuestStatus& guest) { return guest.record.name; }

/// The least that `guest` could be brought to: its pin, its minimum, or what it has when its balloon cannot
/// be moved.
Bytes least(const GuestStatus& guest, const std::map<std::string, Bytes>& pins) {
  const Credit credit = guest.record.credit;
  const bool movable = guest.record.connected && guest.record.balloon.driver_ready &&
                       guest.record.balloon.obstacle.empty() && !guest.contested_until;
  if (!movable) return credit.counted(std::max<Bytes>(guest.record.balloon.actual, guest.record.target));
  const auto pin = pins.find(guest.record.name);
  return pin == pins.end() ? guest.limits.min : pin->second;
}

/// `pins`: those in force now, newer than `state`.
grpc::Status check_pin(const GuestStatus& guest, const State& state, const std::map<std::string, Bytes>& pins,
                       Bytes target) {
  const GuestRecord& record = guest.record;
  if (record.credit.counted(target) < guest.limits.min) {
    return {grpc::StatusCode::INVALID_ARGUMENT,
            fmt::format("{} is below {}'s guaranteed minimum, {}", format_bytes(target), record.name,
                        format_bytes(record.credit.claimed(guest.limits.min)))};
  }
  if (target > record.memory) {
    return {grpc::StatusCode::INVALID_ARGUMENT,
            fmt::format("{} is above {}'s boot memory, {}", format_bytes(target), record.name,
                        format_bytes(record.memory))};
  }
  if (!record.connected) {
    return {grpc::StatusCode::FAILED_PRECONDITION, fmt::format("{}'s VMM is not connected", record.name)};
  }
  Bytes others = state.reserved;
  for (const GuestStatus& other : state.guests) {
    if (other.record.name != record.name) others += least(other, pins);
  }
  if (others + target > state.budget) {
    const Bytes rest = above(state.budget, others);
    return {grpc::StatusCode::FAILED_PRECONDITION,
            fmt::format("the host cannot free that much: of the {} that guests may have, others and "
                        "reservations keep at least {}, "
                        "which leaves {}",
                        format_bytes(state.budget), format_bytes(others), format_bytes(rest))};
  }
  return grpc::Status::OK;
}

/// `guest` as published, with what has been wished since.
v1::Guest with_record(const GuestStatus& guest, const State& state, const GuestRecord& record) {
  GuestStatus fresh = guest;
  fresh.record.pin = record.pin;
  return to_proto(fresh, state);
}

}  // namespace

SchedulerService::SchedulerService(Registry& guests, StateStore& states, ReservationBook& reservations,
                                   PinKeeper& pins, ControlSwitch& control, const NeedHistory& needs,
                                   const Acceptor& peers)
    : guests_(guests),
      states_(states),
      reservations_(reservations),
      pins_(pins),
      control_(control),
      needs_(needs),
      peers_(peers),
      watchers_(std::make_shared<Watchers>(states)) {
  states_.subscribe(watchers_);
}

grpc::ServerUnaryReactor* SchedulerService::ListGuests(grpc::CallbackServerContext* context,
                                                       const v1::ListGuestsRequest* request,
                                                       v1::ListGuestsResponse* response) {
  if (auto* const refused = refuse(context, Role::read)) return refused;
  const auto state = states_.newest();
  const std::string& after = request->page_token();
  if (!after.empty() && !is_guest_name(after)) return answer(context, bad_page_token());
  Page page(request->page_size());
  auto guest = std::ranges::upper_bound(state->guests, after, {}, name_of);
  for (; guest != state->guests.end(); ++guest) {
    v1::Guest next = to_proto(*guest, *state);
    if (!page.takes(next.ByteSizeLong())) break;
    *response->add_guests() = std::move(next);
  }
  if (guest != state->guests.end()) response->set_next_page_token(name_of(*std::prev(guest)));
  *response->mutable_generation() = generation_of(*state);
  return answer(context, grpc::Status::OK);
}

grpc::ServerUnaryReactor* SchedulerService::GetGuest(grpc::CallbackServerContext* context,
                                                     const v1::GetGuestRequest* request,
                                                     v1::GetGuestResponse* response) {
  if (auto* const refused = refuse(context, Role::read)) return refused;
  const auto state = states_.newest();
  const GuestStatus* const guest = state->find(request->name());
  if (guest == nullptr) return answer(context, not_found(request->name()));
  *response->mutable_guest() = to_proto(*guest, *state);
  *response->mutable_generation() = generation_of(*state);
  return answer(context, grpc::Status::OK);
}

grpc::ServerUnaryReactor* SchedulerService::GetHost(grpc::CallbackServerContext* context,
                                                    const v1::GetHostRequest*,
                                                    v1::GetHostResponse* response) {
  if (auto* const refused = refuse(context, Role::read)) return refused;
  const auto state = states_.newest();
  if (state->revision == 0) {
    return answer(context, {grpc::StatusCode::UNAVAILABLE, "the host has not been sampled yet: try again"});
  }
  *response->mutable_host() = host_to_proto(*state);
  // Who has just paused control is told so, also before the next decision.
  response->mutable_host()->set_not_applied(control_.obstacle());
  *response->mutable_generation() = generation_of(*state);
  return answer(context, grpc::Status::OK);
}

grpc::ServerUnaryReactor* SchedulerService::SetTarget(grpc::CallbackServerContext* context,
                                                      const v1::SetTargetRequest* request,
                                                      v1::SetTargetResponse* response) {
  if (auto* const refused = refuse(context, Role::operate)) return refused;
  PinChange change;
  const auto status = pin(*request, peers_.peer_of(context->peer()), *response->mutable_guest(), change);
  return status.ok() ? when_kept(context, std::move(change)) : answer(context, status);
}

grpc::ServerUnaryReactor* SchedulerService::ClearTarget(grpc::CallbackServerContext* context,
                                                        const v1::ClearTargetRequest* request,
                                                        v1::ClearTargetResponse* response) {
  if (auto* const refused = refuse(context, Role::operate)) return refused;
  PinChange change;
  const auto status = unpin(*request, peers_.peer_of(context->peer()), *response->mutable_guest(), change);
  return status.ok() ? when_kept(context, std::move(change)) : answer(context, status);
}

/// Answers once the pins are on the disk; where they cannot be, all is as it was before.
grpc::ServerUnaryReactor* SchedulerService::when_kept(grpc::CallbackServerContext* context,
                                                      PinChange change) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  pins_.keep([this, reactor, change = std::move(change)](const Result<void>& kept) {
    if (kept) return reactor->Finish(grpc::Status::OK);
    guests_.undo_pin(change.guest, change.now, change.before);
    reactor->Finish({grpc::StatusCode::INTERNAL, "it cannot be written down: " + kept.error().message});
  });
  return reactor;
}

grpc::ServerUnaryReactor* SchedulerService::refuse(grpc::CallbackServerContext* context, Role role) const {
  return peers_.roles_of(context->peer()).has(role) ? nullptr : answer(context, without_role(role));
}

grpc::ServerUnaryReactor* SchedulerService::SetMerging(grpc::CallbackServerContext* context,
                                                       const v1::SetMergingRequest* request,
                                                       v1::SetMergingResponse* response) {
  if (auto* const refused = refuse(context, Role::operate)) return refused;
  return answer(context, merge(*request, peers_.peer_of(context->peer()), *response->mutable_guest()));
}

grpc::ServerUnaryReactor* SchedulerService::PauseControl(grpc::CallbackServerContext* context,
                                                         const v1::PauseControlRequest* request,
                                                         v1::PauseControlResponse* response) {
  if (auto* const refused = refuse(context, Role::operate)) return refused;
  std::optional<nanoseconds> duration;
  if (request->has_duration()) {
    nanoseconds asked{};
    if (const auto status = read_duration(&request->duration(), {}, "duration", asked); !status.ok())
      return answer(context, status);
    duration = asked;
  }
  const Peer peer = peers_.peer_of(context->peer());
  control_.pause(duration, fmt::format("uid {}", peer.uid));
  log::warning(source_of(peer), "control: {} (process {}): balloons stay as they are", control_.obstacle(),
               peer.pid);
  response->set_not_applied(control_.obstacle());
  return answer(context, grpc::Status::OK);
}

grpc::ServerUnaryReactor* SchedulerService::ResumeControl(grpc::CallbackServerContext* context,
                                                          const v1::ResumeControlRequest*,
                                                          v1::ResumeControlResponse* response) {
  if (auto* const refused = refuse(context, Role::operate)) return refused;
  const Peer peer = peers_.peer_of(context->peer());
  if (control_.resume())
    log::info(source_of(peer), "control: resumed by uid {} (process {})", peer.uid, peer.pid);
  response->set_not_applied(control_.obstacle());
  return answer(context, grpc::Status::OK);
}

grpc::ServerUnaryReactor* SchedulerService::Reserve(grpc::CallbackServerContext* context,
                                                    const v1::ReserveRequest* request,
                                                    v1::ReserveResponse* response) {
  if (auto* const refused = refuse(context, Role::reserve)) return refused;
  return reserve(reservations_, *request, peers_.peer_of(context->peer()), *response);
}

grpc::ServerUnaryReactor* SchedulerService::GetReservation(grpc::CallbackServerContext* context,
                                                           const v1::GetReservationRequest* request,
                                                           v1::GetReservationResponse* response) {
  if (auto* const refused = refuse(context, Role::read)) return refused;
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  get(reservations_, *request, *response, *reactor);
  return reactor;
}

grpc::ServerUnaryReactor* SchedulerService::ExtendReservation(grpc::CallbackServerContext* context,
                                                              const v1::ExtendReservationRequest* request,
                                                              v1::ExtendReservationResponse* response) {
  if (auto* const refused = refuse(context, Role::reserve)) return refused;
  const ReservationCaller caller = caller_of(context);
  extend(caller, *request, *response);
  return caller.reactor;
}

grpc::ServerUnaryReactor* SchedulerService::CommitReservation(grpc::CallbackServerContext* context,
                                                              const v1::CommitReservationRequest* request,
                                                              v1::CommitReservationResponse* response) {
  if (auto* const refused = refuse(context, Role::reserve)) return refused;
  const ReservationCaller caller = caller_of(context);
  commit(caller, *request, *response);
  return caller.reactor;
}

grpc::ServerUnaryReactor* SchedulerService::ReleaseReservation(grpc::CallbackServerContext* context,
                                                               const v1::ReleaseReservationRequest* request,
                                                               v1::ReleaseReservationResponse*) {
  if (auto* const refused = refuse(context, Role::reserve)) return refused;
  const ReservationCaller caller = caller_of(context);
  release(caller, *request);
  return caller.reactor;
}

grpc::ServerUnaryReactor* SchedulerService::ListReservations(grpc::CallbackServerContext* context,
                                                             const v1::ListReservationsRequest* request,
                                                             v1::ListReservationsResponse* response) {
  if (auto* const refused = refuse(context, Role::read)) return refused;
  const std::string& token = request->page_token();
  std::uint64_t after = 0;
  const char* const last = token.data() + token.size();
  const auto [end, error] = std::from_chars(token.data(), last, after);
  if (!token.empty() && (error != std::errc{} || end != last)) return answer(context, bad_page_token());
  Page page(request->page_size());
  std::uint64_t newest = after;
  for (const ReservationRecord& record : reservations_.list()) {
    if (record.number <= after) continue;
    v1::Reservation next = reservation_to_proto(record);
    if (!page.takes(next.ByteSizeLong())) {
      response->set_next_page_token(std::to_string(newest));
      break;
    }
    newest = record.number;
    *response->add_reservations() = std::move(next);
  }
  *response->mutable_generation() = generation_of(*states_.newest());
  return answer(context, grpc::Status::OK);
}

grpc::ServerUnaryReactor* SchedulerService::ListNeeds(grpc::CallbackServerContext* context,
                                                      const v1::ListNeedsRequest* request,
                                                      v1::ListNeedsResponse* response) {
  if (auto* const refused = refuse(context, Role::read)) return refused;
  const auto state = states_.newest();
  const auto figures = needs_.figures();
  if (!request->has_name()) {
    for (const auto& [name, needs] : *figures)
      *response->add_guests() = needs_to_proto(name, needs, state->find(name));
    return answer(context, grpc::Status::OK);
  }
  const std::string& name = request->name();
  const auto days = needs_.days_of(name);
  if (days.empty()) {
    return answer(context, {grpc::StatusCode::NOT_FOUND,
                            fmt::format("nothing is known of what '{}' needed", printable(name))});
  }
  const auto known = figures->find(name);
  v1::GuestNeeds& guest = *response->add_guests();
  guest = needs_to_proto(name, known == figures->end() ? NeedsByWindow() : known->second, state->find(name));
  for (const auto& [day, needs] : days) add_day(guest, day, needs);
  return answer(context, grpc::Status::OK);
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* SchedulerService::WatchGuests(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* bytes) {
  if (!peers_.roles_of(context->peer()).has(Role::read)) return Watchers::refuse(without_role(Role::read));
  v1::WatchGuestsRequest request;
  grpc::ByteBuffer copy(*bytes);  // parsing takes what it reads
  const bool good = grpc::SerializationTraits<v1::WatchGuestsRequest>::Deserialize(&copy, &request).ok();
  const bool resumes = good && request.after().epoch() == states_.epoch();
  return watchers_->add(peers_.peer_of(context->peer()).pid, resumes ? request.after().revision() : 0);
}

v1::Generation SchedulerService::generation_of(const State& state) const {
  v1::Generation generation;
  generation.set_epoch(states_.epoch());
  generation.set_revision(state.revision);
  return generation;
}

ReservationCaller SchedulerService::caller_of(grpc::CallbackServerContext* context) {
  const Peer peer = peers_.peer_of(context->peer());
  return {.book = reservations_,
          .peer = peer,
          .is_operator = peers_.roles_of(context->peer()).has(Role::operate),
          .reactor = context->DefaultReactor()};
}

grpc::Status SchedulerService::pin(const v1::SetTargetRequest& request, const Peer& peer, v1::Guest& out,
                                   PinChange& change) {
  const auto state = states_.newest();
  const GuestStatus* const guest = state->find(request.name());
  if (guest == nullptr) return not_found(request.name());
  nanoseconds duration{};
  if (const auto status = read_duration(request.has_duration() ? &request.duration() : nullptr, kPinDefault,
                                        "duration", duration);
      !status.ok())
    return status;
  const MutexLock lock(pinning_);
  if (const auto status = check_pin(*guest, *state, guests_.pins(), Bytes{request.target_bytes()});
      !status.ok())
    return status;
  const Bytes target = whole_pages(Bytes{request.target_bytes()});
  change = change_of(request.name());
  const auto record = guests_.set_pin(request.name(), target, duration);
  if (!record) return not_found(request.name());
  change.now = record->pin;
  log::info(source_of(peer), "guest {}: pinned at {} for {} s by uid {} (process {}), {}", request.name(),
            format_bytes(target), duration.count() / 1'000'000'000, peer.uid, peer.pid,
            change.before ? format_bytes(change.before->target) + " before" : "not pinned before");
  out = with_record(*guest, *state, *record);
  return grpc::Status::OK;
}

grpc::Status SchedulerService::merge(const v1::SetMergingRequest& request, const Peer& peer, v1::Guest& out) {
  const auto state = states_.newest();
  const GuestStatus* const guest = state->find(request.name());
  if (guest != nullptr && request.merging() && !guest->limits.ksm) {
    return {grpc::StatusCode::FAILED_PRECONDITION,
            fmt::format("policy keeps {}'s memory from KSM (ksm: off)", request.name())};
  }
  const auto record =
      guest == nullptr ? std::nullopt : guests_.set_merging(request.name(), request.merging());
  if (!record) return not_found(request.name());
  log::info(source_of(peer), "guest {}: KSM turned {} by uid {} (process {})", request.name(),
            request.merging() ? "on" : "off", peer.uid, peer.pid);
  out = with_record(*guest, *state, *record);
  return grpc::Status::OK;
}

SchedulerService::PinChange SchedulerService::change_of(const std::string& guest) const {
  const auto record = guests_.find(guest);
  return {.guest = guest, .now = std::nullopt, .before = record ? record->pin : std::nullopt};
}

grpc::Status SchedulerService::unpin(const v1::ClearTargetRequest& request, const Peer& peer, v1::Guest& out,
                                     PinChange& change) {
  const auto state = states_.newest();
  const GuestStatus* const guest = state->find(request.name());
  const MutexLock lock(pinning_);
  change = change_of(request.name());
  const auto record = guest == nullptr ? std::nullopt : guests_.clear_pin(request.name());
  if (!record) return not_found(request.name());
  if (change.before) {
    log::info(source_of(peer), "guest {}: unpinned by uid {} (process {}), {} before", request.name(),
              peer.uid, peer.pid, format_bytes(change.before->target));
  }
  out = with_record(*guest, *state, *record);
  return grpc::Status::OK;
}

}  // namespace balloon::daemon
