// SPDX-License-Identifier: Apache-2.0
// How many calls of each gRPC method there were, how they ended, and how long they took: for the metrics.
#pragma once

#include <grpcpp/support/server_interceptor.h>
#include <grpcpp/support/status.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "base/histogram.h"

namespace balloon::daemon {

/// Most calls are answered from the newest state, in a fraction of a millisecond; Reserve waits for memory.
inline constexpr std::array<double, 7> kCallBuckets{0.0005, 0.001, 0.005, 0.025, 0.1, 1, 10};
inline constexpr std::size_t kStatusCodes = 17;  // grpc/impl/codegen/status.h: OK (0) to UNAUTHENTICATED (16)

/// "OK", "NotFound": as go-grpc-prometheus writes them, whose dashboards are in use everywhere.
std::string_view name_of(grpc::StatusCode code);

class CallCounters {
 public:
  struct Method {
    std::string service{};
    std::string name{};
    std::string_view type{};  ///< "unary", "server_stream", "bidi_stream"
    std::atomic<std::uint64_t> started{0};
    std::array<std::atomic<std::uint64_t>, kStatusCodes> ended{};  ///< by code
    Histogram seconds{kCallBuckets};                               ///< of unary calls

    bool is_unary() const { return type == "unary"; }
    void end(grpc::StatusCode code) { ++ended.at(static_cast<std::size_t>(code)); }
  };

  /// Every method that the server has: peers cannot make more by calling others.
  CallCounters();
  /// By its path, "/balloon.v1.SchedulerService/ListGuests"; null: there is none.
  Method* find(std::string_view path);
  const std::map<std::string, Method, std::less<>>& methods() const { return methods_; }

 private:
  std::map<std::string, Method, std::less<>> methods_;
};

/// Counts a call from here to its end; gRPC owns it. A method that keeps its own count of ends, because its
/// messages are too many to be looked at each, does without.
grpc::experimental::Interceptor* observe(CallCounters::Method& method);

}  // namespace balloon::daemon
