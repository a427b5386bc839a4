// SPDX-License-Identifier: Apache-2.0
#include "balloond/api/reserve_call.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <memory>

#include "balloond/api/convert.h"
#include "balloond/api/durations.h"
#include "balloond/api/reservation_calls.h"
#include "balloond/guests/registry.h"
#include "balloond/guests/sanitize.h"
#include "base/bytes.h"
#include "base/log.h"
#include "base/pages.h"

namespace balloon::daemon {
namespace {

using std::chrono::nanoseconds;
using Code = grpc::StatusCode;

// scheduler.proto, ReserveRequest.
constexpr nanoseconds kWithinDefault = std::chrono::minutes(1);
constexpr nanoseconds kLeaseDefault = std::chrono::minutes(10);
constexpr std::uint32_t kPriorityDefault = 100;
static_assert(kWishMax == kLeaseMax);

bool is_line(const std::string& text, std::size_t longest) {
  return text.size() <= longest && std::ranges::all_of(text, [](char c) { return c >= ' ' && c <= '~'; });
}

}  // namespace

grpc::Status read_wish(const v1::ReserveRequest& asked, ReservationRequest& out) {
  if (!is_guest_name(asked.id()))
    return {Code::INVALID_ARGUMENT,
            "the id must be 1 to 64 characters of A-Z a-z 0-9 . _ -, and begin with none of . -"};
  const Bytes min{asked.min_bytes()};
  const Bytes max{asked.has_max_bytes() ? asked.max_bytes() : asked.min_bytes()};
  if (min == Bytes{0} || min > kReservationSizeMax || max > kReservationSizeMax)
    return {Code::INVALID_ARGUMENT, "min_bytes must be above 0, and both sizes at most 2^46"};
  if (max < min)
    return {Code::INVALID_ARGUMENT,
            fmt::format("max {} is below min {}", format_bytes(max), format_bytes(min))};
  const std::uint32_t priority = asked.has_priority() ? asked.priority() : kPriorityDefault;
  if (priority == 0 || priority > kReservationPriorityMax)
    return {Code::INVALID_ARGUMENT, fmt::format("the priority must be 1 to {}", kReservationPriorityMax)};
  if (!is_line(asked.request_id(), kRequestIdMax) || !is_line(asked.owner(), kOwnerMax))
    return {Code::INVALID_ARGUMENT,
            "request_id (at most 128) and owner (at most 64) are printable ASCII characters"};
  out = {.id = asked.id(),
         .min = pages_to_hold(min),
         .max = pages_to_hold(max),
         .priority = priority,
         .request_id = asked.request_id(),
         .detached = asked.detached()};
  if (const auto status = read_duration(asked.has_within() ? &asked.within() : nullptr, kWithinDefault,
                                        "time to free it in", out.within);
      !status.ok())
    return status;
  return read_duration(asked.has_lease() ? &asked.lease() : nullptr, kLeaseDefault, "lease", out.lease);
}

namespace {

grpc::Status status_of(const ReservationOutcome& outcome) {
  switch (outcome.kind) {
    case ReservationOutcome::Kind::granted:
      return grpc::Status::OK;
    case ReservationOutcome::Kind::refused:
      return {Code::RESOURCE_EXHAUSTED, outcome.reason};
    case ReservationOutcome::Kind::expired:
      return {Code::DEADLINE_EXCEEDED, outcome.reason};
    case ReservationOutcome::Kind::released:
    case ReservationOutcome::Kind::lapsed:
    case ReservationOutcome::Kind::joined:
      return {Code::ABORTED, outcome.reason};
    case ReservationOutcome::Kind::name_taken:
      return {Code::FAILED_PRECONDITION, outcome.reason};
    case ReservationOutcome::Kind::unsaved:
      return {Code::INTERNAL, outcome.reason};
  }
  return {Code::INTERNAL, "unknown outcome"};
}

class ReserveCall final : public grpc::ServerUnaryReactor {
 public:
  ReserveCall(ReservationBook& book, v1::ReserveResponse& response) : book_(book), response_(response) {}

  void start(std::shared_ptr<ReserveCall> self, const ReservationRequest& wish) {
    self_ = std::move(self);
    ReservationBook::Tell tell;
    if (!wish.detached) tell = [call = self_](const ReservationOutcome& outcome) { call->finish(outcome); };
    const auto asked = book_.ask(wish, this, std::move(tell));
    if (!asked) return finish(status_of(asked.error(), wish.id));
    if (wish.detached) finish({.kind = ReservationOutcome::Kind::granted, .record = *asked});
  }

  /// Without asking.
  void refuse(std::shared_ptr<ReserveCall> self, const grpc::Status& status) {
    self_ = std::move(self);
    finish(status);
  }

  void OnCancel() override {
    book_.withdraw(this);
    finish(grpc::Status::CANCELLED);
  }
  void OnDone() override { self_.reset(); }

 private:
  void finish(const grpc::Status& status) {
    if (!finished_.exchange(true)) Finish(status);
  }

  void finish(const ReservationOutcome& outcome) {
    if (finished_.exchange(true)) return;
    if (outcome.kind == ReservationOutcome::Kind::granted) {
      *response_.mutable_reservation() = reservation_to_proto(outcome.record);
      response_.mutable_reservation()->set_token(outcome.record.token);
    }
    Finish(status_of(outcome));
  }

  ReservationBook& book_;
  v1::ReserveResponse& response_;
  std::atomic<bool> finished_{false};
  std::shared_ptr<ReserveCall> self_;
};

}  // namespace

grpc::ServerUnaryReactor* reserve(ReservationBook& book, const v1::ReserveRequest& request, const Peer& peer,
                                  v1::ReserveResponse& response) {
  const auto call = std::make_shared<ReserveCall>(book, response);
  ReserveCall* const reactor = call.get();
  ReservationRequest wish;
  const grpc::Status good = read_wish(request, wish);
  wish.uid = peer.uid;
  wish.owner = request.owner().empty() ? fmt::format("uid {}", peer.uid) : request.owner();
  if (good.ok()) {
    log::info(source_of(peer), "reservation {}: {} to {} within {} s asked for by uid {} (process {})",
              wish.id, format_bytes(wish.min), format_bytes(wish.max), wish.within.count() / 1'000'000'000,
              peer.uid, peer.pid);
    reactor->start(call, wish);
  } else {
    reactor->refuse(call, good);
  }
  return reactor;
}

}  // namespace balloon::daemon
