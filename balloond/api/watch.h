// The streams of WatchGuests.
#pragma once

#include <grpcpp/support/server_callback.h>

#include "balloon/v1/scheduler.pb.h"
#include "balloond/control/state.h"

namespace balloon::daemon {

/// A stream that sends the newest state, and each newer one as fast as the reader takes them. It owns itself.
grpc::ServerWriteReactor<v1::WatchGuestsResponse>* watch_guests(StateStore& states);

}  // namespace balloon::daemon
