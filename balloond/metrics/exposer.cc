#include "balloond/metrics/exposer.h"

#include <fmt/format.h>
#include <prometheus/exposer.h>

#include <exception>

namespace balloon::daemon {

Result<MetricsServer> MetricsServer::start(const std::string& listen,
                                           const std::shared_ptr<prometheus::Collectable>& metrics) {
  try {
    auto exposer = std::make_unique<prometheus::Exposer>(listen);
    exposer->RegisterCollectable(metrics);
    return MetricsServer(std::move(exposer));
  } catch (
      const std::exception&) {  // "null context when constructing CivetServer" would tell nobody anything
    return fail(fmt::format(
        "cannot serve metrics on {} (metrics.listen): the address is in use, or not this host's", listen));
  }
}

MetricsServer::MetricsServer(std::unique_ptr<prometheus::Exposer> exposer) : exposer_(std::move(exposer)) {}
MetricsServer::MetricsServer(MetricsServer&&) noexcept = default;
MetricsServer::~MetricsServer() = default;

}  // namespace balloon::daemon
