// SPDX-License-Identifier: Apache-2.0
#include "policy/peers/balloond1/urgency.h"

#include "policy/urgency.h"

namespace balloon::policy::peers::balloond1 {

bool is_urgent(const UseSample& sample, Bytes margin_min, double margin_ratio) {
  const Bytes used = sample.used();
  const auto margin = std::max(margin_min, static_cast<Bytes>(margin_ratio * static_cast<double>(used)));
  if (sample.available < margin / 2) return true;
  if (!sample.used_before || used <= *sample.used_before) return false;
  const auto rise = static_cast<double>(used - *sample.used_before);
  return rise > kFastGrowth * static_cast<double>(used) && sample.available < used;
}

}  // namespace balloon::policy::peers::balloond1
