// SPDX-License-Identifier: Apache-2.0
// Serves /metrics and probes over HTTP on the configured address, and nowhere else.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "balloond/metrics/http_server.h"
#include "base/error.h"

namespace balloon::daemon {

class MetricsServer {
 public:
  /// `page`: all metrics in Prometheus' text format; called by the server's thread.
  static Result<MetricsServer> start(const std::string& listen, HttpServer::Page page,
                                     std::vector<HttpServer::Probe> probes = {});
  MetricsServer(MetricsServer&&) noexcept;
  ~MetricsServer();

 private:
  explicit MetricsServer(std::unique_ptr<HttpServer> server);
  std::unique_ptr<HttpServer> server_;
};

}  // namespace balloon::daemon
