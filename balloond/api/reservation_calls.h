// SPDX-License-Identifier: Apache-2.0
// The calls about a reservation that is there: extend, commit, release. Each is answered once what it changed
// is written down.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include "balloon/v1/scheduler.pb.h"
#include "balloond/control/reservation_book.h"
#include "balloond/guests/backend.h"

namespace balloon::daemon {

/// Who calls, and how that is answered.
struct ReservationCaller {
  ReservationBook& book;
  Peer peer;
  bool is_operator = false;
  grpc::ServerUnaryReactor* reactor = nullptr;
};

/// The status of a call that is refused at once, about the reservation `id`.
grpc::Status status_of(const ReservationRefusal& refusal, const std::string& id);

void get(const ReservationBook& book, const v1::GetReservationRequest& request,
         v1::GetReservationResponse& response, grpc::ServerUnaryReactor& reactor);
void extend(const ReservationCaller& caller, const v1::ExtendReservationRequest& request,
            v1::ExtendReservationResponse& response);
void commit(const ReservationCaller& caller, const v1::CommitReservationRequest& request,
            v1::CommitReservationResponse& response);
void release(const ReservationCaller& caller, const v1::ReleaseReservationRequest& request);

}  // namespace balloon::daemon
