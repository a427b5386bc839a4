// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/wire.h"

#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <limits>

namespace balloon::daemon {
namespace {

/// A message with a different number in each field, so that no two can be mixed up.
v1::GuestStats numbered_stats() {
  v1::GuestStats stats;
  const auto* const descriptor = stats.GetDescriptor();
  for (int i = 0; i < descriptor->field_count(); ++i) {
    const auto* const field = descriptor->field(i);
    if (field->cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_UINT64)
      stats.GetReflection()->SetUInt64(&stats, field, 100U + static_cast<unsigned>(field->number()));
  }
  stats.mutable_sampled_at()->set_seconds(1'700'000'000);
  stats.mutable_sampled_at()->set_nanos(123'456'789);
  stats.mutable_round_trip()->set_seconds(2);
  stats.mutable_round_trip()->set_nanos(5);
  return stats;
}

TEST(Wire, StatisticsComeBackAsTheyWere) {
  const v1::GuestStats said = numbered_stats();
  v1::GuestStats out;
  to_wire(from_wire(said), out);
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(said, out))
      << said.ShortDebugString() << "\nis not\n"
      << out.ShortDebugString();
}

TEST(Wire, WhatWasNotSaidIsNotSaidOn) {
  v1::GuestStats out;
  to_wire(from_wire(v1::GuestStats()), out);
  EXPECT_EQ(out.ByteSizeLong(), 0U);
}

TEST(Wire, EachNumberOfASampleHasItsOwnName) {
  const StatsSample stats = from_wire(numbered_stats());
  EXPECT_EQ(stats.actual, Bytes{102});
  EXPECT_EQ(stats.swap_in, Bytes{103});
  EXPECT_EQ(stats.free, Bytes{107});
  EXPECT_EQ(stats.total, Bytes{108});
  EXPECT_EQ(stats.available, Bytes{109});
  EXPECT_EQ(stats.direct_reclaims, 118U);
  EXPECT_EQ(stats.disk_read, Bytes{120});
}

TEST(Wire, AGuestOfBalloonVmmHasAllThatItCanDo) {
  const Capabilities can = from_wire(v1::Register()).can;
  EXPECT_EQ(can, (Capabilities{.statistics = true,
                               .on_demand = true,
                               .events = true,
                               .reporting = true,
                               .ksm_switch = true,
                               .disk_reads = true}));
}

TEST(Wire, EachCapabilityHasItsOwnName) {
  const auto said = [](const Capabilities& can) {
    v1::Capabilities out;
    to_wire(can, out);
    return out.ShortDebugString();
  };
  EXPECT_EQ(said({}), "granularity_bytes: 4096");
  EXPECT_EQ(said({.statistics = true, .granularity = {}}), "statistics: true");
  EXPECT_EQ(said({.on_demand = true, .granularity = {}}), "on_demand: true");
  EXPECT_EQ(said({.events = true, .granularity = {}}), "events: true");
  EXPECT_EQ(said({.reporting = true, .granularity = {}}), "free_page_reporting: true");
  EXPECT_EQ(said({.ksm_switch = true, .granularity = {}}), "ksm_switch: true");
  EXPECT_EQ(said({.disk_reads = true, .granularity = {}}), "disk_reads: true");
}

TEST(Wire, ATimeThatIsNoneIsBefore1970) {
  constexpr auto most = std::numeric_limits<std::int64_t>::max();
  constexpr auto least = std::numeric_limits<std::int64_t>::min();
  for (const auto& [seconds, nanos] : std::initializer_list<std::pair<std::int64_t, int>>{
           {most, 0}, {least, 0}, {-1, 0}, {253'402'300'800, 0}, {1, -1}, {1, 1'000'000'000}}) {
    v1::GuestStats said;
    said.mutable_sampled_at()->set_seconds(seconds);
    said.mutable_sampled_at()->set_nanos(nanos);
    EXPECT_LT(from_wire(said).sampled_at.value(), WallTime()) << seconds << " s, " << nanos << " ns";
    v1::GuestStats out;
    to_wire(from_wire(said), out);
    EXPECT_FALSE(out.has_sampled_at()) << seconds << " s, " << nanos << " ns";
  }
}

TEST(Wire, ATimeBeyondTheClocksLastIsItsLast) {
  v1::GuestStats said;
  said.mutable_sampled_at()->set_seconds(253'402'300'799);
  said.mutable_sampled_at()->set_nanos(999'999'999);
  EXPECT_GT(from_wire(said).sampled_at.value(), WallTime::max() - std::chrono::seconds(2));
}

TEST(Wire, ARoundTripBeyondTheClocksSecondsIsLongAndNotWrappedAround) {
  v1::GuestStats said;
  said.mutable_round_trip()->set_seconds(std::numeric_limits<std::int64_t>::max());
  EXPECT_EQ(from_wire(said).round_trip, std::chrono::hours(1));
  said.mutable_round_trip()->set_seconds(std::numeric_limits<std::int64_t>::min());
  EXPECT_EQ(from_wire(said).round_trip, -std::chrono::hours(1));
}

TEST(Wire, ARegistrationKeepsWhatItDoesNotSayUnset) {
  v1::Register said;
  said.set_name("a");
  EXPECT_EQ(from_wire(said).balloon, std::nullopt);
  EXPECT_EQ(from_wire(said).merging, std::nullopt);
  said.set_memory_bytes(4096);
  said.set_vcpus(3);
  said.set_vmm_version("1.2");
  said.set_merging(false);
  (*said.mutable_labels())["tier"] = "db";
  v1::BalloonUpdate& balloon = *said.mutable_balloon();
  balloon.set_actual_bytes(11);
  balloon.set_target_bytes(12);
  balloon.set_has_stats(true);
  const Registration guest = from_wire(said);
  EXPECT_EQ(guest.memory, Bytes{4096});
  EXPECT_EQ(guest.vcpus, 3U);
  EXPECT_EQ(guest.version, "1.2");
  EXPECT_EQ(guest.hypervisor, "balloon-vmm");
  EXPECT_EQ(guest.merging, false);
  EXPECT_EQ(guest.labels.at("tier"), "db");
  EXPECT_EQ(guest.balloon->actual, Bytes{11});
  EXPECT_EQ(guest.balloon->target, Bytes{12});
  EXPECT_TRUE(guest.balloon->has_stats);
  EXPECT_FALSE(guest.balloon->driver_ready);
}

TEST(Wire, EachCounterOfABalloonHasItsOwnName) {
  v1::BalloonCounters said;
  said.set_inflated_bytes(1);
  said.set_reported_bytes(2);
  said.set_hinted_bytes(3);
  said.set_freed_bytes(4);
  said.set_deflated_bytes(5);
  said.set_bytes_per_second(6);
  said.set_stalls(7);
  said.set_refused_pages(8);
  EXPECT_EQ(from_wire(said), (BalloonCounters{.inflated = Bytes{1},
                                              .reported = Bytes{2},
                                              .hinted = Bytes{3},
                                              .freed = Bytes{4},
                                              .deflated = Bytes{5},
                                              .per_second = Bytes{6},
                                              .stalls = 7,
                                              .refused_pages = 8}));
}

}  // namespace
}  // namespace balloon::daemon
