// Building prometheus metric families one sample at a time.
#pragma once

#include <prometheus/metric_family.h>

#include <string>
#include <utility>
#include <vector>

namespace balloon::daemon {

using Labels = std::vector<std::pair<std::string, std::string>>;

class Families {
 public:
  /// The family `name`, made at its first use.
  prometheus::MetricFamily& family(const std::string& name, const std::string& help,
                                   prometheus::MetricType type);
  void gauge(const std::string& name, const std::string& help, double value, const Labels& labels = {});
  void counter(const std::string& name, const std::string& help, double value, const Labels& labels = {});
  std::vector<prometheus::MetricFamily> take() { return std::move(families_); }

 private:
  std::vector<prometheus::MetricFamily> families_;
};

/// process_*: what every Prometheus client library exports of its own process (prometheus.io, "Writing client
/// libraries").
void add_process_metrics(Families& families);

}  // namespace balloon::daemon
