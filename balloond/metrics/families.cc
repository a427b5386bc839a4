#include "balloond/metrics/families.h"

#include <algorithm>

namespace balloon::daemon {
namespace {

prometheus::ClientMetric with_labels(const Labels& labels) {
  prometheus::ClientMetric metric;
  for (const auto& [name, value] : labels) {
    prometheus::ClientMetric::Label label;
    label.name = name;
    label.value = value;
    metric.label.push_back(std::move(label));
  }
  return metric;
}

}  // namespace

prometheus::MetricFamily& Families::family(const std::string& name, const std::string& help,
                                           prometheus::MetricType type) {
  const auto known = std::ranges::find(families_, name, &prometheus::MetricFamily::name);
  if (known != families_.end()) return *known;
  prometheus::MetricFamily& made = families_.emplace_back();
  made.name = name;
  made.help = help;
  made.type = type;
  return made;
}

void Families::gauge(const std::string& name, const std::string& help, double value, const Labels& labels) {
  prometheus::ClientMetric metric = with_labels(labels);
  metric.gauge.value = value;
  family(name, help, prometheus::MetricType::Gauge).metric.push_back(std::move(metric));
}

void Families::counter(const std::string& name, const std::string& help, double value, const Labels& labels) {
  prometheus::ClientMetric metric = with_labels(labels);
  metric.counter.value = value;
  family(name, help, prometheus::MetricType::Counter).metric.push_back(std::move(metric));
}

}  // namespace balloon::daemon
