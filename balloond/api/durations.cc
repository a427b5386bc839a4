// SPDX-License-Identifier: Apache-2.0
#include "balloond/api/durations.h"

#include <fmt/format.h>

namespace balloon::daemon {

grpc::Status read_duration(const google::protobuf::Duration* sent, std::chrono::nanoseconds unset,
                           std::string_view what, std::chrono::nanoseconds& out) {
  using std::chrono::nanoseconds;
  out = unset;
  if (sent == nullptr) return grpc::Status::OK;
  const bool good = sent->seconds() >= 0 && sent->nanos() >= 0 && sent->nanos() <= 999'999'999 &&
                    sent->seconds() <= std::chrono::duration_cast<std::chrono::seconds>(kWishMax).count();
  if (good) out = std::chrono::seconds(sent->seconds()) + nanoseconds(sent->nanos());
  if (!good || out <= nanoseconds(0) || out > kWishMax) {
    return {grpc::StatusCode::INVALID_ARGUMENT,
            fmt::format("the {} must be positive and at most 24 h", what)};
  }
  return grpc::Status::OK;
}

}  // namespace balloon::daemon
