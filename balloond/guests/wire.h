// SPDX-License-Identifier: Apache-2.0
// Guests in the words of balloon.v1, and back: for the guest link and for the API.
#pragma once

#include "balloon/v1/guest_link.pb.h"
#include "balloond/guests/guest.h"

namespace balloon::daemon {

Registration from_wire(const v1::Register& said);
StatsSample from_wire(const v1::GuestStats& said);
BalloonState from_wire(const v1::BalloonUpdate& said);
BalloonCounters from_wire(const v1::BalloonCounters& said);

void to_wire(const Capabilities& can, v1::Capabilities& out);
void to_wire(const StatsSample& stats, v1::GuestStats& out);

}  // namespace balloon::daemon
