// SPDX-License-Identifier: Apache-2.0
// The balloon's values as messages of the guest link.
#pragma once

#include "balloon/v1/guest_link.pb.h"
#include "vmm/devices/balloon/balloon_control.h"

namespace balloon::vmm {

v1::GuestStats to_message(const BalloonStats& stats);
v1::BalloonUpdate to_message(const BalloonState& state);
v1::BalloonCounters to_message(const BalloonCounters& counters);

}  // namespace balloon::vmm
