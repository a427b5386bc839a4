// SPDX-License-Identifier: Apache-2.0
#include "policy/sim/as_balloond.h"

#include <limits>
#include <utility>

namespace balloon::policy::sim {
namespace {

template <typename T>
void drop_unknown(std::optional<T>& value) {
  if (value == std::numeric_limits<T>::max()) value.reset();
}

bool above(const std::optional<Bytes>& part, Bytes whole) { return part && *part > whole; }

template <typename T>
void drop_if_back(std::optional<T>& now, const std::optional<T>& before) {
  if (now && *now < before.value_or(T{})) now.reset();
}

}  // namespace

bool is_usable(GuestStats& sample, const std::optional<GuestStats>& previous, Bytes memory) {
  for (auto* size : {&sample.total, &sample.available, &sample.free, &sample.disk_caches, &sample.swap_in,
                     &sample.swap_out, &sample.disk_read})
    drop_unknown(*size);
  for (auto* count : {&sample.major_faults, &sample.oom_kills, &sample.alloc_stalls, &sample.direct_scans,
                      &sample.direct_reclaims})
    drop_unknown(*count);
  if (sample.actual == Bytes{0} || sample.actual > memory || sample.total == Bytes{0} ||
      above(sample.total, memory))
    return false;
  const Bytes whole = sample.total.value_or(memory);
  if (above(sample.available, whole) || above(sample.free, whole) || above(sample.disk_caches, whole))
    return false;
  if (previous) {
    drop_if_back(sample.swap_in, previous->swap_in);
    drop_if_back(sample.swap_out, previous->swap_out);
    drop_if_back(sample.major_faults, previous->major_faults);
    drop_if_back(sample.disk_read, previous->disk_read);
  }
  return true;
}

void Registered::join(Time now) {
  *this = {};
  ready_since_ = now;
}

void Registered::driver(Time now, bool up) {
  if (!connected_ || up == std::exchange(up_, up)) return;
  if (up) {
    ready_since_ = now;
  } else {  // it reboots: its counters start again
    usable_.reset();
    previous_.reset();
    complaint_ = false;
  }
}

void Registered::take(GuestStats sample, Bytes memory) {
  complaint_ = !is_usable(sample, previous_, memory);
  if (complaint_) {
    usable_.reset();
  } else {
    usable_ = sample;
  }
  previous_ = sample;
}

std::optional<GuestStats> Registered::seen(Time now, Bytes actual, Time stale_after) const {
  if (usable_) return usable_;
  const bool past_booting = !connected_ || complaint_ || (up_ && now - ready_since_ > stale_after);
  if (!past_booting) return std::nullopt;
  GuestStats nothing;
  nothing.sampled_at = now - 2 * stale_after;
  nothing.actual = actual;
  return nothing;
}

}  // namespace balloon::policy::sim
