// The backend for balloon-vmm: the server side of the guest link. Each VMM keeps one stream open.
#pragma once

#include <functional>
#include <string>

#include "balloon/v1/guest_link.grpc.pb.h"
#include "balloond/guests/backend.h"

namespace balloon::daemon {

class VmmLink final : public v1::GuestLinkService::CallbackService {
 public:
  /// `peer_of` turns a call's peer address into who that is; `stats_interval` is what new guests are told.
  VmmLink(GuestEvents& guests, std::function<Peer(const std::string&)> peer_of,
          std::function<std::chrono::nanoseconds()> stats_interval);

  grpc::ServerBidiReactor<v1::ConnectRequest, v1::ConnectResponse>* Connect(
      grpc::CallbackServerContext* context) override;

 private:
  GuestEvents& guests_;
  std::function<Peer(const std::string&)> peer_of_;
  std::function<std::chrono::nanoseconds()> stats_interval_;
};

}  // namespace balloon::daemon
