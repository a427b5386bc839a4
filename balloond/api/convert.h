// SPDX-License-Identifier: Apache-2.0
// The daemon's state in the words of balloon.v1.
#pragma once

#include "balloon/v1/scheduler.pb.h"
#include "balloond/control/state.h"
#include "balloond/needs/need_history.h"

namespace balloon::daemon {

v1::Guest to_proto(const GuestStatus& guest, const State& state);
v1::Host host_to_proto(const State& state);
/// Without its token, which is for whoever reserved it alone.
v1::Reservation reservation_to_proto(const ReservationRecord& record);
/// `guest`: as it is now; null: it is not there.
v1::GuestNeeds needs_to_proto(const std::string& name, const NeedsByWindow& needs, const GuestStatus* guest);
void add_day(v1::GuestNeeds& guest, Day day, const NeedFigures& needs);
v1::Reservation ended_to_proto(const EndedReservation& ended);

}  // namespace balloon::daemon
