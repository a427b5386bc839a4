// SPDX-License-Identifier: Apache-2.0
// The backend for balloon-vmm: the server side of the guest link. Each VMM keeps one stream open.
#pragma once

#include <functional>
#include <string>

#include "balloon/v1/guest_link.grpc.pb.h"
#include "balloond/guests/backend.h"
#include "balloond/guests/backend_counters.h"

namespace balloon::daemon {

/// What the link has to know of connections, and to say. Calls come from any thread.
class LinkPeers {
 public:
  virtual ~LinkPeers() = default;
  /// Who is at the other end, by a call's peer address.
  virtual Peer peer_of(const std::string& address) const = 0;
  /// OK when it may run a guest, or how the call is to end.
  virtual grpc::Status may_link(const std::string& address) const = 0;
  /// That the connection carries one guest more, or one less.
  virtual void carries_guest(const std::string& address, bool more) = 0;
};

class VmmLink final : public v1::GuestLinkService::CallbackService {
 public:
  /// Told how each stream ended.
  using OnEnd = std::function<void(grpc::StatusCode)>;
  /// `stats_interval` is what new guests are told.
  VmmLink(GuestEvents& guests, LinkPeers& peers, std::function<std::chrono::nanoseconds()> stats_interval,
          OnEnd on_end);

  grpc::ServerBidiReactor<v1::ConnectRequest, v1::ConnectResponse>* Connect(
      grpc::CallbackServerContext* context) override;
  const BackendHealth& health() const { return health_; }

 private:
  GuestEvents& guests_;
  LinkPeers& peers_;
  std::function<std::chrono::nanoseconds()> stats_interval_;
  const OnEnd on_end_;
  BackendHealth health_;
};

}  // namespace balloon::daemon
