// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/wire.h"

#include <algorithm>

namespace balloon::daemon {
namespace {

using std::chrono::nanoseconds;
using std::chrono::seconds;

constexpr std::int64_t kNanosPerSecond = 1'000'000'000;
/// Last second that a protobuf Timestamp may hold: 9999-12-31T23:59:59Z (google/protobuf/timestamp.proto).
constexpr std::int64_t kTimestampMax = 253'402'300'799;
/// Last whole second of the clock, which counts nanoseconds in 64 bits (the year 2262).
constexpr std::int64_t kClockMax =
    std::chrono::duration_cast<seconds>(WallTime::max().time_since_epoch()).count() - 1;

/// What is no time becomes one before 1970.
WallTime time_from(const google::protobuf::Timestamp& said) {
  if (said.seconds() < 0 || said.seconds() > kTimestampMax || said.nanos() < 0 ||
      said.nanos() >= kNanosPerSecond)
    return WallTime(seconds(-1));
  return WallTime(seconds(std::min(said.seconds(), kClockMax)) + nanoseconds(said.nanos()));
}

/// Each optional number of a sample, by both its names.
template <typename Visit>
void each_number(Visit visit) {
  using Said = v1::GuestStats;
#define BALLOON_NUMBER(ours, wire) \
  visit(&StatsSample::ours, &Said::has_##wire, &Said::wire, &Said::set_##wire)
  BALLOON_NUMBER(swap_in, swap_in_bytes);
  BALLOON_NUMBER(swap_out, swap_out_bytes);
  BALLOON_NUMBER(major_faults, major_faults);
  BALLOON_NUMBER(minor_faults, minor_faults);
  BALLOON_NUMBER(free, free_bytes);
  BALLOON_NUMBER(total, total_bytes);
  BALLOON_NUMBER(available, available_bytes);
  BALLOON_NUMBER(disk_caches, disk_caches_bytes);
  BALLOON_NUMBER(hugetlb_allocations, hugetlb_allocations);
  BALLOON_NUMBER(hugetlb_failures, hugetlb_failures);
  BALLOON_NUMBER(oom_kills, oom_kills);
  BALLOON_NUMBER(alloc_stalls, alloc_stalls);
  BALLOON_NUMBER(async_scans, async_scans);
  BALLOON_NUMBER(direct_scans, direct_scans);
  BALLOON_NUMBER(async_reclaims, async_reclaims);
  BALLOON_NUMBER(direct_reclaims, direct_reclaims);
  BALLOON_NUMBER(disk_read, disk_read_bytes);
#undef BALLOON_NUMBER
}

}  // namespace

Registration from_wire(const v1::Register& said) {
  Registration guest{.name = said.name(),
                     .hypervisor = "balloon-vmm",
                     .version = said.vmm_version(),
                     .labels = {said.labels().begin(), said.labels().end()},
                     .memory = Bytes{said.memory_bytes()},
                     .vcpus = said.vcpus(),
                     .balloon = {},
                     .merging = {},
                     .can = {.statistics = true,
                             .on_demand = true,
                             .events = true,
                             .reporting = true,
                             .ksm_switch = true,
                             .disk_reads = true}};
  if (said.has_balloon()) guest.balloon = from_wire(said.balloon());
  if (said.has_merging()) guest.merging = said.merging();
  return guest;
}

StatsSample from_wire(const v1::GuestStats& said) {
  StatsSample stats;
  if (said.has_sampled_at()) stats.sampled_at = time_from(said.sampled_at());
  stats.actual = Bytes{said.actual_bytes()};
  each_number([&](auto ours, auto has, auto get, auto /*set*/) {
    if ((said.*has)()) (stats.*ours).emplace((said.*get)());
  });
  if (said.has_round_trip()) {
    constexpr std::int64_t kLongest = seconds(std::chrono::hours(1)).count();
    stats.round_trip = seconds(std::clamp(said.round_trip().seconds(), -kLongest, kLongest)) +
                       nanoseconds(said.round_trip().nanos());
  }
  return stats;
}

BalloonState from_wire(const v1::BalloonUpdate& said) {
  return {.actual = Bytes{said.actual_bytes()},
          .target = Bytes{said.target_bytes()},
          .driver_ready = said.driver_ready(),
          .has_stats = said.has_stats(),
          .deflate_on_oom = said.deflate_on_oom(),
          .free_page_reporting = said.free_page_reporting(),
          .free_page_hinting = said.free_page_hinting(),
          .paused = said.paused(),
          .obstacle = said.paused() ? "it does not run: paused" : ""};
}

BalloonCounters from_wire(const v1::BalloonCounters& said) {
  return {.inflated = Bytes{said.inflated_bytes()},
          .reported = Bytes{said.reported_bytes()},
          .hinted = Bytes{said.hinted_bytes()},
          .freed = Bytes{said.freed_bytes()},
          .deflated = Bytes{said.deflated_bytes()},
          .per_second = Bytes{said.bytes_per_second()},
          .stalls = said.stalls(),
          .refused_pages = said.refused_pages()};
}

void to_wire(const Capabilities& can, v1::Capabilities& out) {
  out.set_statistics(can.statistics);
  out.set_on_demand(can.on_demand);
  out.set_events(can.events);
  out.set_free_page_reporting(can.reporting);
  out.set_ksm_switch(can.ksm_switch);
  out.set_disk_reads(can.disk_reads);
  out.set_granularity_bytes(can.granularity.count());
}

void to_wire(const StatsSample& stats, v1::GuestStats& out) {
  out.set_actual_bytes(stats.actual.count());
  each_number([&](auto ours, auto /*has*/, auto /*get*/, auto set) {
    if (stats.*ours) (out.*set)(static_cast<std::uint64_t>(*(stats.*ours)));
  });
  if (stats.sampled_at && *stats.sampled_at >= WallTime()) {
    const std::int64_t since = stats.sampled_at->time_since_epoch().count();
    out.mutable_sampled_at()->set_seconds(since / kNanosPerSecond);
    out.mutable_sampled_at()->set_nanos(static_cast<std::int32_t>(since % kNanosPerSecond));
  }
  if (stats.round_trip) {
    out.mutable_round_trip()->set_seconds(stats.round_trip->count() / kNanosPerSecond);
    out.mutable_round_trip()->set_nanos(
        static_cast<std::int32_t>(stats.round_trip->count() % kNanosPerSecond));
  }
}

}  // namespace balloon::daemon
