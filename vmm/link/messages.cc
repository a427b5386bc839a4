#include "vmm/link/messages.h"

namespace balloon::vmm {

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
  message.mutable_sampled_at()->set_seconds(since_epoch.count() / 1'000'000'000);
  message.mutable_sampled_at()->set_nanos(static_cast<std::int32_t>(since_epoch.count() % 1'000'000'000));
  message.set_actual_bytes(stats.actual);
  for (std::size_t tag = 0; tag < kStatTags; ++tag) {
    if (stats.values[tag]) (message.*kSetters[tag])(*stats.values[tag]);
  }
  return message;
}

v1::BalloonUpdate to_message(const BalloonState& state) {
  v1::BalloonUpdate message;
  message.set_actual_bytes(state.actual);
  message.set_target_bytes(state.target);
  message.set_driver_ready(state.driver_ready);
  message.set_has_stats(state.has_stats);
  message.set_deflate_on_oom(state.deflate_on_oom);
  message.set_free_page_reporting(state.free_page_reporting);
  return message;
}

}  // namespace balloon::vmm
