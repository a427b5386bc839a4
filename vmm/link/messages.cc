// SPDX-License-Identifier: Apache-2.0
#include "vmm/link/messages.h"

#include "vmm/memory/guest_memory.h"

namespace balloon::vmm {
namespace {

constexpr std::int64_t kNanos = 1'000'000'000;  // in a second

}  // namespace

v1::GuestStats to_message(const BalloonStats& stats) {
  using Setter = void (v1::GuestStats::*)(std::uint64_t);
  // In the order of StatTag.
  static constexpr std::array<Setter, kStatTags> kSetters{
      &v1::GuestStats::set_swap_in_bytes,       &v1::GuestStats::set_swap_out_bytes,
      &v1::GuestStats::set_major_faults,        &v1::GuestStats::set_minor_faults,
      &v1::GuestStats::set_free_bytes,          &v1::GuestStats::set_total_bytes,
      &v1::GuestStats::set_available_bytes,     &v1::GuestStats::set_disk_caches_bytes,
      &v1::GuestStats::set_hugetlb_allocations, &v1::GuestStats::set_hugetlb_failures,
      &v1::GuestStats::set_oom_kills,           &v1::GuestStats::set_alloc_stalls,
      &v1::GuestStats::set_async_scans,         &v1::GuestStats::set_direct_scans,
      &v1::GuestStats::set_async_reclaims,      &v1::GuestStats::set_direct_reclaims,
  };
  v1::GuestStats message;
  const auto since_epoch =
      std::chrono::duration_cast<std::chrono::nanoseconds>(stats.sampled_at.time_since_epoch());
  message.mutable_sampled_at()->set_seconds(since_epoch.count() / kNanos);
  message.mutable_sampled_at()->set_nanos(static_cast<std::int32_t>(since_epoch.count() % kNanos));
  message.mutable_round_trip()->set_seconds(stats.round_trip.count() / kNanos);
  message.mutable_round_trip()->set_nanos(static_cast<std::int32_t>(stats.round_trip.count() % kNanos));
  message.set_actual_bytes(stats.actual.count());
  for (std::size_t tag = 0; tag < kStatTags; ++tag) {
    if (stats.values[tag]) (message.*kSetters[tag])(*stats.values[tag]);
  }
  return message;
}

v1::BalloonUpdate to_message(const BalloonState& state) {
  v1::BalloonUpdate message;
  message.set_actual_bytes(state.actual.count());
  message.set_target_bytes(state.target.count());
  message.set_driver_ready(state.driver_ready);
  message.set_has_stats(state.has_stats);
  message.set_deflate_on_oom(state.deflate_on_oom);
  message.set_free_page_reporting(state.free_page_reporting);
  message.set_free_page_hinting(state.free_page_hinting);
  return message;
}

v1::BalloonCounters to_message(const BalloonCounters& counters) {
  v1::BalloonCounters message;
  message.set_inflated_bytes(counters.inflated.count());
  message.set_reported_bytes(counters.reported.count());
  message.set_hinted_bytes(counters.hinted.count());
  message.set_freed_bytes(counters.freed.count());
  message.set_deflated_bytes(counters.pages_deflated * kPageSize);
  message.set_bytes_per_second(counters.rate);
  message.set_stalls(counters.stalls);
  message.set_refused_pages(counters.pages_refused);
  return message;
}

}  // namespace balloon::vmm
