// SPDX-License-Identifier: Apache-2.0
// One call of Reserve: it is answered when the memory is there, or will not be.
#pragma once

#include <grpcpp/support/server_callback.h>

#include "balloon/v1/scheduler.pb.h"
#include "balloond/control/reservation_book.h"
#include "balloond/guests/backend.h"

namespace balloon::daemon {

/// What is asked for, as the book takes it; INVALID_ARGUMENT, with the reason, when it makes no sense.
grpc::Status read_wish(const v1::ReserveRequest& asked, ReservationRequest& out);

/// The reactor owns itself until the call is done. `peer` goes into the log.
grpc::ServerUnaryReactor* reserve(ReservationBook& book, const v1::ReserveRequest& request, const Peer& peer,
                                  v1::ReserveResponse& response);

}  // namespace balloon::daemon
