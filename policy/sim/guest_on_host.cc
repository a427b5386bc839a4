// SPDX-License-Identifier: Apache-2.0
// A guest as its host sees it: pages in the host's swap, pages that are merged.
#include <algorithm>
#include <cmath>

#include "policy/rate.h"
#include "policy/sim/guest_plant.h"

namespace balloon::policy::sim {

/// Pages that went into the balloon need no place in the host's swap any more.
void GuestPlant::forget_host_swap(double idle_pages_gone, double idle_before) {
  if (idle_before <= 0) return;
  memory_.host_swapped_idle *= 1 - std::min(1.0, idle_pages_gone / idle_before);
}

double GuestPlant::idle_pool() const {
  return memory_.cold + memory_.free_backed + std::clamp(idle_anon_ - memory_.swapped, 0.0, memory_.anon);
}

/// What is used comes back from the host's swap: working pages, and idle ones that were put to use.
void GuestPlant::read_from_host_swap(const HostGrant& grant) {
  const double idle = idle_pool();
  const double reused = std::min(memory_.host_swapped_idle,
                                 std::max(memory_.host_swapped_idle * allocated_ / (idle + allocated_ + 1),
                                          memory_.host_swapped_idle - idle));
  const double working = memory_.anon + memory_.hot + memory_.kernel + memory_.arc + memory_.zram;
  memory_.host_swapped_working = std::min(memory_.host_swapped_working, working);
  const double touched = reuse(memory_.host_swapped_working);
  const double wanted = reused + touched;
  if (wanted <= 0) return;
  // Guests' pages lie scattered in the swap device, so that reading ahead is of no use (VSwapper, ASPLOS
  // '14).
  const double by_latency =
      grant.swap_latency > 0 ? grant.swap_at_once * kPageBytes / grant.swap_latency * kStepSeconds : wanted;
  const double part = std::min({wanted, by_latency, grant.swap_in, install_left_}) / wanted;
  const double in = wanted * part;
  memory_.host_swapped_idle -= reused * part;
  memory_.host_swapped_working -= touched * part;
  // Pages that could not be read yet are in use all the same.
  const double late = reused * (1 - part);
  memory_.host_swapped_idle -= late;
  memory_.host_swapped_working += late;
  install_left_ -= in;
  last_host_swap_in_ = in;
  counters_.host_swap_in += in;
  host_stall_seconds_ +=
      in / kPageBytes * grant.swap_latency / grant.swap_at_once + kStepSeconds * (1 - part);
}

double GuestPlant::swap_out(double idle, double working) {
  if (spec_->pinned) return 0;
  const double idle_out = std::min(idle, idle_resident());
  const double working_out = std::min(working, memory_.resident() - idle_out - idle_resident());
  memory_.host_swapped_idle += idle_out;
  memory_.host_swapped_working += std::max(0.0, working_out);
  const double out = idle_out + std::max(0.0, working_out);
  counters_.host_swap_out += out;
  return out;
}

double GuestPlant::merge(double bytes) {
  const double change = memory_.merged - bytes;
  memory_.merged = bytes;
  return change;
}

double GuestPlant::idle_resident() const {
  return spec_->pinned ? 0 : std::max(0.0, idle_pool() - memory_.host_swapped_idle);
}

double GuestPlant::wants_installed(const Wants& wants) const {
  const double growth =
      std::max(0.0, wants.anon - memory_.anon - memory_.swapped) +
      std::max(0.0, wants.kernel - memory_.kernel) + std::max(0.0, wants.hot - memory_.hot) +
      std::clamp(wants.cold - memory_.cold, 0.0, spec_->cold_rate * kStepSeconds) + memory_.swapped +
      std::clamp(wants.arc - memory_.arc, 0.0, spec_->cold_rate * kStepSeconds) + wants.stream * kStepSeconds;
  const double fresh = std::min(std::max(0.0, growth - memory_.free_backed), memory_.free_unbacked);
  return std::min(fresh + memory_.host_swapped_working, speeds_.install * kStepSeconds);
}

}  // namespace balloon::policy::sim
