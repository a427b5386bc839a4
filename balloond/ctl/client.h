// SPDX-License-Identifier: Apache-2.0
// Calls to the daemon, with its errors in words and exit codes.
#pragma once

#include <chrono>
#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "balloon/v1/capacity.grpc.pb.h"
#include "balloon/v1/scheduler.grpc.pb.h"
#include "base/bytes.h"
#include "base/mutex.h"

namespace balloon::ctl {

/// What scripts can tell apart. Documented in --help.
enum class Exit : int { ok = 0, failure = 1, usage = 2, not_found = 3, refused = 4, unreachable = 5 };

struct CallError {
  Exit code = Exit::failure;
  std::string message;
};

template <typename T>
using Answer = std::expected<T, CallError>;

class Client {
 public:
  Client(const std::string& socket, std::chrono::nanoseconds timeout);

  Answer<v1::ListGuestsResponse> list();
  Answer<v1::Guest> get(const std::string& name);
  Answer<v1::Host> host();
  /// Without a duration: the daemon's default.
  Answer<v1::Guest> set(const std::string& name, Bytes target,
                        std::optional<std::chrono::nanoseconds> duration);
  Answer<v1::Guest> merge(const std::string& name, bool merging);
  /// Without a duration: until it is resumed. Both answer why decisions are not applied then; empty: they
  /// are.
  Answer<v1::PauseControlResponse> pause(std::optional<std::chrono::nanoseconds> duration);
  Answer<v1::ResumeControlResponse> resume();
  Answer<v1::Guest> clear(const std::string& name);
  /// Waits for as long as the daemon may take to free the memory: `within` and the client's own timeout.
  Answer<v1::Reservation> reserve(const v1::ReserveRequest& request, std::chrono::nanoseconds within);
  /// With its token, or by an operator's force.
  Answer<void> release(const std::string& id, const std::string& token, bool force);
  Answer<v1::Reservation> extend(const v1::ExtendReservationRequest& request);
  Answer<v1::Reservation> commit(const v1::CommitReservationRequest& request);
  Answer<v1::Reservation> reservation(const std::string& id);
  Answer<v1::ListReservationsResponse> reservations();
  /// Of all guests, or of the one with all its days.
  Answer<v1::ListNeedsResponse> needs(const std::string& guest);
  Answer<v1::Capacity> capacity();
  Answer<v1::CheckFitResponse> fit(const v1::CheckFitRequest& request);
  /// Calls `show` for each state until it returns false or the stream ends.
  Answer<void> watch(const std::function<bool(v1::WatchGuestsResponse&)>& show);
  /// Ends a watch of another thread at once, without a further state.
  void end_watch();

 private:
  std::unique_ptr<grpc::ClientContext> context(bool with_deadline, std::chrono::nanoseconds more = {}) const;
  CallError error(const grpc::Status& status) const;

  std::string socket_;
  std::chrono::nanoseconds timeout_;
  std::unique_ptr<v1::SchedulerService::Stub> stub_;
  std::unique_ptr<v1::CapacityService::Stub> capacity_;
  Mutex watching_mutex_;
  grpc::ClientContext* watching_ GUARDED_BY(watching_mutex_) = nullptr;  ///< of the watch under way
};

}  // namespace balloon::ctl
