// SPDX-License-Identifier: Apache-2.0
// balloon.v1.SchedulerService: reads answer from the newest published state; wishes become pins in the
// registry,
// reservations those of the book.
#pragma once

#include <memory>
#include <string>

#include "balloon/v1/scheduler.grpc.pb.h"
#include "balloond/api/acceptor.h"
#include "balloond/api/reservation_calls.h"
#include "balloond/api/watch.h"
#include "balloond/control/control_switch.h"
#include "balloond/control/pin_keeper.h"
#include "balloond/control/state.h"
#include "balloond/needs/need_history.h"
#include "base/mutex.h"

namespace balloon::daemon {

/// WatchGuests is sent as bytes, for all watchers are sent the same.
class SchedulerService final
    : public v1::SchedulerService::WithRawCallbackMethod_WatchGuests<v1::SchedulerService::CallbackService> {
 public:
  /// `peers` knows who calls, and what each may.
  SchedulerService(Registry& guests, StateStore& states, ReservationBook& reservations, PinKeeper& pins,
                   ControlSwitch& control, const NeedHistory& needs, const Acceptor& peers);

  grpc::ServerUnaryReactor* ListGuests(grpc::CallbackServerContext* context,
                                       const v1::ListGuestsRequest* request,
                                       v1::ListGuestsResponse* response) override;
  grpc::ServerUnaryReactor* GetGuest(grpc::CallbackServerContext* context, const v1::GetGuestRequest* request,
                                     v1::GetGuestResponse* response) override;
  grpc::ServerUnaryReactor* GetHost(grpc::CallbackServerContext* context, const v1::GetHostRequest* request,
                                    v1::GetHostResponse* response) override;
  grpc::ServerUnaryReactor* SetTarget(grpc::CallbackServerContext* context,
                                      const v1::SetTargetRequest* request,
                                      v1::SetTargetResponse* response) override;
  grpc::ServerUnaryReactor* ClearTarget(grpc::CallbackServerContext* context,
                                        const v1::ClearTargetRequest* request,
                                        v1::ClearTargetResponse* response) override;
  grpc::ServerUnaryReactor* SetMerging(grpc::CallbackServerContext* context,
                                       const v1::SetMergingRequest* request,
                                       v1::SetMergingResponse* response) override;
  grpc::ServerUnaryReactor* PauseControl(grpc::CallbackServerContext* context,
                                         const v1::PauseControlRequest* request,
                                         v1::PauseControlResponse* response) override;
  grpc::ServerUnaryReactor* ResumeControl(grpc::CallbackServerContext* context,
                                          const v1::ResumeControlRequest* request,
                                          v1::ResumeControlResponse* response) override;
  grpc::ServerUnaryReactor* Reserve(grpc::CallbackServerContext* context, const v1::ReserveRequest* request,
                                    v1::ReserveResponse* response) override;
  grpc::ServerUnaryReactor* GetReservation(grpc::CallbackServerContext* context,
                                           const v1::GetReservationRequest* request,
                                           v1::GetReservationResponse* response) override;
  grpc::ServerUnaryReactor* ExtendReservation(grpc::CallbackServerContext* context,
                                              const v1::ExtendReservationRequest* request,
                                              v1::ExtendReservationResponse* response) override;
  grpc::ServerUnaryReactor* CommitReservation(grpc::CallbackServerContext* context,
                                              const v1::CommitReservationRequest* request,
                                              v1::CommitReservationResponse* response) override;
  grpc::ServerUnaryReactor* ReleaseReservation(grpc::CallbackServerContext* context,
                                               const v1::ReleaseReservationRequest* request,
                                               v1::ReleaseReservationResponse* response) override;
  grpc::ServerUnaryReactor* ListReservations(grpc::CallbackServerContext* context,
                                             const v1::ListReservationsRequest* request,
                                             v1::ListReservationsResponse* response) override;
  grpc::ServerUnaryReactor* ListNeeds(grpc::CallbackServerContext* context,
                                      const v1::ListNeedsRequest* request,
                                      v1::ListNeedsResponse* response) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* WatchGuests(grpc::CallbackServerContext* context,
                                                          const grpc::ByteBuffer* request) override;

 private:
  v1::Generation generation_of(const State& state) const;
  ReservationCaller caller_of(grpc::CallbackServerContext* context);
  /// What a call made of a pin.
  struct PinChange {
    std::string guest{};
    std::optional<PinRecord> now{};
    std::optional<PinRecord> before{};
  };
  /// The answer to a caller who has not that role; null: it has.
  grpc::ServerUnaryReactor* refuse(grpc::CallbackServerContext* context, Role role) const;
  grpc::ServerUnaryReactor* when_kept(grpc::CallbackServerContext* context, PinChange change);
  PinChange change_of(const std::string& guest) const;
  grpc::Status pin(const v1::SetTargetRequest& request, const Peer& peer, v1::Guest& out, PinChange& change)
      EXCLUDES(pinning_);
  grpc::Status merge(const v1::SetMergingRequest& request, const Peer& peer, v1::Guest& out);
  grpc::Status unpin(const v1::ClearTargetRequest& request, const Peer& peer, v1::Guest& out,
                     PinChange& change) EXCLUDES(pinning_);

  Registry& guests_;
  StateStore& states_;
  ReservationBook& reservations_;
  PinKeeper& pins_;
  ControlSwitch& control_;
  const NeedHistory& needs_;
  const Acceptor& peers_;
  const std::shared_ptr<Watchers> watchers_;
  Mutex pinning_;  ///< one pin is judged at a time, by those that were accepted before it
};

}  // namespace balloon::daemon
