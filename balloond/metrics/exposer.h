// Serves /metrics over HTTP on the configured address, and nowhere else.
#pragma once

#include <prometheus/collectable.h>

#include <memory>
#include <string>

#include "base/error.h"

namespace prometheus {
class Exposer;
}

namespace balloon::daemon {

class MetricsServer {
 public:
  static Result<MetricsServer> start(const std::string& listen,
                                     const std::shared_ptr<prometheus::Collectable>& metrics);
  MetricsServer(MetricsServer&&) noexcept;
  ~MetricsServer();

 private:
  explicit MetricsServer(std::unique_ptr<prometheus::Exposer> exposer);
  std::unique_ptr<prometheus::Exposer> exposer_;
};

}  // namespace balloon::daemon
