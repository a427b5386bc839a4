// SPDX-License-Identifier: Apache-2.0
#include "balloond/metrics/sections.h"

namespace balloon::daemon {

void add_calls(Families& out, const CallCounters& calls) {
  for (const auto& [path, method] : calls.methods()) {
    const Labels label{
        {"grpc_type", method.type}, {"grpc_service", method.service}, {"grpc_method", method.name}};
    out.counter("grpc_server_started_total", "Calls that began.", method.started.load(), label);
    for (std::size_t code = 0; code < kStatusCodes; ++code) {
      const std::uint64_t ended = method.ended.at(code);
      if (ended == 0 && code != grpc::StatusCode::OK) continue;
      out.counter("grpc_server_handled_total", "Calls that ended, by how.", ended,
                  label.with({{"grpc_code", name_of(static_cast<grpc::StatusCode>(code))}}));
    }
    if (method.is_unary())
      out.histogram("grpc_server_handling_seconds", "How long calls took that are no streams.",
                    method.seconds, label);
  }
}

void add_backends(Families& out, std::span<const BackendHealth* const> health,
                  std::span<const RequestCounters> requests) {
  for (std::size_t i = 0; i < kBackends.size(); ++i) {
    const BackendHealth& it = *health[i];
    const RequestCounters& asked = requests[i];
    const Labels label{{"backend", kBackends.at(i)}};
    const std::uint64_t connected = it.connected, failing = it.failing;
    if (it.configured) {
      out.gauge("balloon_backend_up",
                "0 while nothing of it can be reached though something is there; absent: not configured.",
                connected > 0 || failing == 0, label);
    }
    constexpr auto connections_help = "Guest links, QMP sockets and libvirtds, by whether they work.";
    out.gauge("balloon_backend_connections", connections_help, connected,
              label.with({{"state", "connected"}}));
    out.gauge("balloon_backend_connections", connections_help, failing, label.with({{"state", "failing"}}));
    constexpr auto errors_help =
        "connection: one failed, fell silent or spoke nonsense. request: a size was refused.";
    out.counter("balloon_backend_errors_total", errors_help, it.errors.load(),
                label.with({{"reason", "connection"}}));
    out.counter("balloon_backend_errors_total", errors_help, asked.refused.load(),
                label.with({{"reason", "request"}}));
    constexpr auto duration = "balloon_backend_request_duration_seconds";
    constexpr auto duration_help =
        "How long hypervisors took to answer for a size and for statistics. Of balloon-vmm's guests: the "
        "guest itself, for statistics.";
    out.histogram(duration, duration_help, asked.targets, label.with({{"request", "target"}}));
    out.histogram(duration, duration_help, asked.stats, label.with({{"request", "stats"}}));
  }
}

}  // namespace balloon::daemon
