// The daemon's state in the words of balloon.v1.
#pragma once

#include "balloon/v1/scheduler.pb.h"
#include "balloond/control/state.h"

namespace balloon::daemon {

v1::Guest to_proto(const GuestStatus& guest, const State& state);
v1::Host host_to_proto(const State& state);
v1::Reservation reservation_to_proto(const ReservationRecord& record);

}  // namespace balloon::daemon
