// SPDX-License-Identifier: Apache-2.0
#include "policy/reclaim.h"

#include <algorithm>

namespace balloon::policy {

Excess split(Bytes excess, Bytes available, Bytes free, Bytes hot, Pressure pressure) {
  Excess parts{};
  const auto all = static_cast<double>(excess);
  if (pressure != Pressure::none) {
    parts[static_cast<std::size_t>(Cost::pressed)] = all;
    return parts;
  }
  const auto idle = static_cast<double>(available);
  const double unused = std::min(static_cast<double>(free), idle);
  const double in_use = std::min(static_cast<double>(hot), idle - unused);
  double left = all;
  const auto take = [&](Cost cost, double at_most) {
    const double part = std::min(left, std::max(0.0, at_most));
    parts[static_cast<std::size_t>(cost)] = part;
    left -= part;
  };
  take(Cost::free, unused);
  take(Cost::cold, idle - unused - in_use);
  take(Cost::hot, in_use);
  take(Cost::anonymous, left);
  return parts;
}

void Reclaim::add(const Excess& excess) {
  part_ = {};
  for (std::size_t cost = 0; cost < kCosts; ++cost) total_[cost] += excess[cost];
}

void Reclaim::ask(double missing, Cost dearest) {
  for (std::size_t cost = 0; cost <= static_cast<std::size_t>(dearest); ++cost) {
    if (missing <= 0) return;
    if (total_[cost] > 0) part_[cost] = std::max(part_[cost], std::min(1.0, missing / total_[cost]));
    missing -= total_[cost];
  }
}

void Reclaim::ask_everything() { part_.fill(1.0); }

double Reclaim::asked(const Excess& excess) const {
  double bytes = 0;
  for (std::size_t cost = 0; cost < kCosts; ++cost) bytes += part_[cost] * excess[cost];
  return bytes;
}

}  // namespace balloon::policy
