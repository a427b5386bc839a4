// SPDX-License-Identifier: Apache-2.0
#include "policy/peaks.h"

#include <algorithm>

#include "policy/rate.h"

namespace balloon::policy {
namespace {

Peaks::Level larger(const Peaks::Level& a, const Peaks::Level& b) {
  return {.need = std::max(a.need, b.need), .low = std::max(a.low, b.low)};
}

}  // namespace

void Peaks::note(const Level& level, double margin, Time now, const Tunables& tunables) {
  if (!from_ || !within(*from_, now, tunables.peak_window)) {
    const bool next = from_ && within(*from_, now, 2 * tunables.peak_window);
    windows_[0] = next ? windows_[1] : Level{};
    windows_[1] = {};
    from_ = now;
  }
  windows_[1] = larger(windows_[1], level);
  peak_ = larger(windows_[0], windows_[1]);
  proved_ = level.need + margin < peak_.need ? peak_.low : std::min(proved_, peak_.low);
}

}  // namespace balloon::policy
