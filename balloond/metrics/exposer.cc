// SPDX-License-Identifier: Apache-2.0
#include "balloond/metrics/exposer.h"

#include <fmt/format.h>

namespace balloon::daemon {
namespace {

/// prometheus.io/docs/instrumenting/exposition_formats, "Text-based format".
constexpr auto kContentType = "text/plain; version=0.0.4; charset=utf-8";

}  // namespace

Result<MetricsServer> MetricsServer::start(const std::string& listen, HttpServer::Page page,
                                           std::vector<HttpServer::Probe> probes) {
  auto server = HttpServer::start(listen, "/metrics", kContentType, std::move(page), std::move(probes));
  if (server) return MetricsServer(std::move(*server));
  return fail(fmt::format(
      "cannot serve metrics on {} (metrics.listen): the address is in use, or not this host's: {}", listen,
      server.error().message));
}

MetricsServer::MetricsServer(std::unique_ptr<HttpServer> server) : server_(std::move(server)) {}
MetricsServer::MetricsServer(MetricsServer&&) noexcept = default;
MetricsServer::~MetricsServer() = default;

}  // namespace balloon::daemon
