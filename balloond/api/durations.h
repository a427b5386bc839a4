// SPDX-License-Identifier: Apache-2.0
// Durations as callers send them.
#pragma once

#include <google/protobuf/duration.pb.h>
#include <grpcpp/support/status.h>

#include <chrono>
#include <string_view>

namespace balloon::daemon {

/// Longest that a wish may hold (scheduler.proto).
inline constexpr std::chrono::nanoseconds kWishMax = std::chrono::hours(24);

/// `sent`, or `unset` when it is null. INVALID_ARGUMENT, naming `what`, unless it is positive and at most
/// kWishMax.
grpc::Status read_duration(const google::protobuf::Duration* sent, std::chrono::nanoseconds unset,
                           std::string_view what, std::chrono::nanoseconds& out);

}  // namespace balloon::daemon
