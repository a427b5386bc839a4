#include "policy/urgency.h"

#include <algorithm>

namespace balloon::policy {

bool is_urgent(Bytes actual, Bytes available, Bytes margin_min, double margin_ratio) {
  const Bytes used = actual - std::min(actual, available);
  const auto margin = std::max(margin_min, static_cast<Bytes>(margin_ratio * static_cast<double>(used)));
  return available < margin / 2;
}

}  // namespace balloon::policy
