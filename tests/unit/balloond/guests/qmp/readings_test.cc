// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/qmp/readings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/bytes.h"
#include "tests/unit/balloond/guests/qmp/recording.h"

namespace balloon::daemon::qmp {
namespace {

using nlohmann::json;
using testing::HasSubstr;

constexpr const char* kBooting = "before the guest's driver is up";
constexpr const char* kOther = "another QEMU";

template <typename T>
std::string complaint(const Result<T>& read) {
  return read ? "none" : read.error().message;
}

json statistics_with(const char* key, const json& value) {
  json answer = recorded("driver up", "guest-stats");
  answer["stats"][key] = value;
  return answer;
}

TEST(Readings, WhatKeepsABalloonFromFreeingMemoryIsFoundByItsType) {
  const auto found = [](const char* type) {
    return find_interlock(
               json::array({{{"name", "type"}, {"type", "string"}}, {{"name", "x"}, {"type", type}}}))
        .value();
  };
  EXPECT_EQ(found("child<vfio-pci>"), "its memory is pinned for a device of the host (vfio-pci)");
  EXPECT_EQ(found("child<sev-snp-guest>"), "its memory is encrypted and stays where it is (sev-snp-guest)");
  EXPECT_EQ(found("child<tdx-guest>"), "its memory is encrypted and stays where it is (tdx-guest)");
  EXPECT_EQ(found("child<virtio-net-pci>"), "");
  EXPECT_FALSE(find_interlock(json::object()));
}

TEST(Readings, NameAndUuid) {
  EXPECT_EQ(read_name(recorded(kBooting, "query-name")).value(), "web");
  EXPECT_EQ(read_uuid(recorded(kBooting, "query-uuid")).value(), "6d1fda3c-3a57-4c55-8a2e-33f2b6ea0c31");
}

TEST(Readings, NameAndUuidThatQemuWasNotGivenAreUnset) {
  EXPECT_EQ(read_name(recorded(kOther, "query-name")).value(), std::nullopt);
  EXPECT_EQ(read_uuid(recorded(kOther, "query-uuid")).value(), std::nullopt);
}

TEST(Readings, MemoryIsBootMemoryAndModules) {
  EXPECT_EQ(read_memory_size(recorded(kBooting, "query-memory-size-summary")).value(), 512 * kMiB);
  EXPECT_EQ(read_memory_size({{"base-memory", 5U}, {"plugged-memory", 6U}}).value(), Bytes{11});
  EXPECT_EQ(read_memory_size({{"base-memory", 5U}}).value(), Bytes{5})
      << "plugged-memory came with QEMU 2.11";
  EXPECT_EQ(complaint(read_memory_size({{"base-memory", 5U}, {"plugged-memory", ~0ULL}})),
            "the memory's size is absurd");
  EXPECT_EQ(complaint(read_memory_size({{"base-memory", -5}})), "'base-memory' is -5, not a count");
  EXPECT_EQ(complaint(read_memory_size(json::array())), "'base-memory' is missing");
}

TEST(Readings, BalloonIsFoundByItsTypeWhateverItsName) {
  EXPECT_EQ(find_balloon(recorded(kBooting, "peripheral\"")).value(), "balloon0");
  EXPECT_EQ(find_balloon(recorded(kBooting, "peripheral-anon")).value(), std::nullopt);
  EXPECT_EQ(find_balloon(recorded(kBooting, "unattached")).value(), std::nullopt);
  for (const char* type : {"child<virtio-balloon-ccw>", "child<virtio-balloon-device>",
                           "child<virtio-balloon-pci-non-transitional>"})
    EXPECT_EQ(find_balloon(json::array({{{"name", "device[3]"}, {"type", type}}})).value(), "device[3]");
}

TEST(Readings, AGuestWithoutABalloonHasNone) {
  EXPECT_EQ(find_balloon(recorded(kOther, "peripheral\"")).value(), std::nullopt);
  EXPECT_THAT(recorded_line(kOther, "query-balloon"), HasSubstr("DeviceNotActive"));
}

TEST(Readings, ActualIsWhatTheGuestHasLeft) {
  EXPECT_EQ(read_actual(recorded("target 300 MiB", "query-balloon")).value(), 300 * kMiB);
  EXPECT_EQ(complaint(read_actual({{"actual", -1}})), "'actual' is -1, not a count");
  EXPECT_EQ(complaint(read_actual({{"actual", 1e30}})), "'actual' is 1e+30, not a count");
  EXPECT_EQ(complaint(read_actual({{"actual", "300"}})), "'actual' is \"300\", not a count");
  EXPECT_EQ(complaint(read_actual({{"actual", {{"a", 1}}}})), "'actual' is an object, not a count");
  EXPECT_EQ(complaint(read_actual(json())), "'actual' is missing");
}

TEST(Readings, RunStateSaysWhetherTheGuestRuns) {
  EXPECT_TRUE(read_run_state(recorded(kBooting, "query-status")).value().running);
  const auto paused = read_run_state(recorded("paused", "query-status")).value();
  EXPECT_FALSE(paused.running);
  EXPECT_EQ(paused.status, "paused");
  EXPECT_EQ(read_run_state(recorded("migration", "query-status")).value().status, "postmigrate");
  EXPECT_FALSE(read_run_state({{"status", "running"}}));
  EXPECT_EQ(complaint(read_run_state({{"running", true}})), "'status' is missing or no text");
}

TEST(Readings, MigrationIsUnderWayUntilItIsOver) {
  EXPECT_FALSE(read_migrating(recorded(kBooting, "query-migrate")).value()) << "never begun";
  EXPECT_TRUE(read_migrating(recorded("migration", "query-migrate")).value()) << "being set up";
  EXPECT_TRUE(read_migrating({{"status", "postcopy-active"}}).value());
  EXPECT_TRUE(read_migrating({{"status", "a state of the future"}}).value());
  for (const char* over : {"completed", "failed", "cancelled", "none"})
    EXPECT_FALSE(read_migrating({{"status", over}}).value()) << over;
}

TEST(Readings, JobsCountUntilTheyAreOver) {
  const auto job = [](const char* type, const char* status) {
    return nlohmann::json{{"id", "x"}, {"type", type}, {"status", status}};
  };
  using nlohmann::json;
  const auto jobs =
      read_jobs(json::array({job("snapshot-save", "running"), job("backup", "concluded")})).value();
  EXPECT_TRUE(jobs.snapshots);
  EXPECT_FALSE(jobs.backs_up);
  EXPECT_TRUE(read_jobs(json::array({job("backup", "a status of the future")})).value().backs_up);
  EXPECT_FALSE(read_jobs(json::array()).value().snapshots);
  EXPECT_EQ(complaint(read_jobs(json{{"type", "backup"}})), "jobs are no list");
  EXPECT_EQ(complaint(read_jobs(json::array({json{{"type", "backup"}}}))), "'status' is missing or no text");
}

TEST(Readings, StatisticsAreUnsetBeforeTheDriverIsUp) {
  const auto stats = read_statistics(recorded(kBooting, "guest-stats\""));
  ASSERT_TRUE(stats) << stats.error().message;
  EXPECT_EQ(stats->updated_at, std::nullopt);
  EXPECT_EQ(stats->available, std::nullopt);
  EXPECT_EQ(stats->swap_in, std::nullopt);
}

TEST(Readings, StatisticsAreBytes) {
  const auto stats = read_statistics(recorded("target 300 MiB", "guest-stats"));
  ASSERT_TRUE(stats) << stats.error().message;
  EXPECT_GT(stats->updated_at.value(), std::chrono::seconds(1'700'000'000));
  EXPECT_GT(stats->available.value(), 200 * kMiB);
  EXPECT_LT(stats->available.value(), 300 * kMiB);
  EXPECT_GT(stats->total.value(), 300 * kMiB) << "with deflate-on-oom, total does not follow the balloon";
  EXPECT_EQ(stats->swap_in, Bytes{0});
  EXPECT_EQ(stats->oom_kills, std::nullopt) << "this QEMU does not know the tag";
}

TEST(Readings, TagsOfNewerQemusAreTaken) {
  EXPECT_EQ(read_statistics(statistics_with("stat-oom-kills", 3U)).value().oom_kills, 3U);
  EXPECT_TRUE(read_statistics(statistics_with("stat-of-the-future", "whatever")));
}

TEST(Readings, UnknownValuesAreUnsetHoweverTheyAreWritten) {
  EXPECT_EQ(read_statistics(statistics_with("stat-swap-in", ~0ULL)).value().swap_in, std::nullopt);
  EXPECT_EQ(read_statistics(statistics_with("stat-swap-in", -1)).value().swap_in, std::nullopt);
}

TEST(Readings, StatisticsThatAreNoCountsAreRefused) {
  EXPECT_EQ(complaint(read_statistics(statistics_with("stat-free-memory", -4096))),
            "'stat-free-memory' is -4096, not a count");
  EXPECT_EQ(complaint(read_statistics(statistics_with("stat-free-memory", 1.5))),
            "'stat-free-memory' is 1.5, not a count");
  EXPECT_EQ(complaint(read_statistics(json::parse(R"({"stats":{"stat-free-memory":2e30},"last-update":1})"))),
            "'stat-free-memory' is 2e+30, not a count");
  EXPECT_EQ(complaint(read_statistics({{"stats", 5}, {"last-update", 1U}})),
            "'stats' is missing or no object");
  EXPECT_EQ(complaint(read_statistics({{"stats", json::object()}})), "'last-update' is missing");
  EXPECT_EQ(complaint(read_statistics({{"stats", json::object()}, {"last-update", ~0ULL}})),
            "'last-update' 18446744073709551615 is not a time");
  EXPECT_TRUE(read_statistics({{"stats", json::object()}, {"last-update", 9'000'000'000U}}));
  EXPECT_EQ(complaint(read_statistics({{"stats", json::object()}, {"last-update", 9'000'000'001U}})),
            "'last-update' 9000000001 is not a time");
}

TEST(Readings, PollingIntervalIsOffUntilItIsSet) {
  EXPECT_EQ(read_polling_interval(recorded(kBooting, "guest-stats-polling-interval")).value().count(), 0);
  EXPECT_EQ(read_polling_interval(recorded("driver up", "guest-stats-polling-interval")).value().count(), 1);
  EXPECT_FALSE(read_polling_interval("1"));
}

TEST(Readings, DriverIsNotReadyBeforeTheGuestHasLoadedIt) {
  const auto driver = read_driver(recorded(kBooting, "x-query-virtio-status"));
  ASSERT_TRUE(driver) << driver.error().message;
  EXPECT_FALSE(driver->ready);
}

TEST(Readings, DriverSaysWhatItCan) {
  const auto driver = read_driver(recorded("driver up", "x-query-virtio-status"));
  ASSERT_TRUE(driver) << driver.error().message;
  EXPECT_TRUE(driver->ready);
  EXPECT_TRUE(driver->statistics);
  EXPECT_TRUE(driver->deflate_on_oom);
  EXPECT_TRUE(driver->free_page_reporting);
  EXPECT_FALSE(read_driver(json::object()));
}

TEST(Readings, WhatADriverDoesNotSayItHasNot) {
  const auto driver = read_driver(json::parse(R"({
      "status": {"statuses": ["VIRTIO_CONFIG_S_DRIVER: Guest OS compatible with device", 4]},
      "guest-features": {"dev-features": ["VIRTIO_BALLOON_F_MUST_TELL_HOST: Tell host before reclaiming", 2]}
  })"));
  ASSERT_TRUE(driver) << driver.error().message;
  EXPECT_FALSE(driver->ready);
  EXPECT_FALSE(driver->statistics);
  EXPECT_FALSE(driver->deflate_on_oom);
  EXPECT_FALSE(driver->free_page_reporting);
}

TEST(Readings, AfterAResetOnlyTheDriverTellsThatTheBalloonIsEmpty) {
  // QEMU goes on to say what the guest had before, though the guest may use all of its memory.
  EXPECT_EQ(read_actual(recorded("the guest boots again", "query-balloon")).value(), 300 * kMiB);
  EXPECT_FALSE(read_driver(recorded("the guest boots again", "x-query-virtio-status")).value().ready);
}

TEST(Readings, DiskReadsAreSummedOverDisks) {
  EXPECT_EQ(read_disk_reads(recorded("driver up", "query-blockstats")).value(), Bytes{4608})
      << "the guest's kernel looked for partitions";
  const json disk = {{"stats", {{"rd_bytes", 7U}}}, {"parent", {{"stats", {{"rd_bytes", 100U}}}}}};
  EXPECT_EQ(read_disk_reads(json::array({disk, disk})).value(), Bytes{14});
  const json absurd = {{"stats", {{"rd_bytes", ~0ULL}}}};
  EXPECT_EQ(complaint(read_disk_reads(json::array({absurd, disk}))), "what the disks read is absurd");
  EXPECT_EQ(read_disk_reads(json::array({absurd})).value(), Bytes::max()) << "it is a number all the same";
  EXPECT_FALSE(read_disk_reads(json::object()));
}

/// What is no count of anything, and what is one that nothing has.
const std::vector<json> kNoCounts{-1,
                                  -9'223'372'036'854'775'807,
                                  1.5,
                                  1e300,
                                  "5",
                                  true,
                                  nullptr,
                                  json::array({1}),
                                  json::object({{"n", 1}})};

TEST(Readings, ANumberThatMakesNoSenseIsRefusedWhereverItStands) {
  const json usual_tags = recorded("driver up", "guest-stats").at("stats");
  for (const json& value : kNoCounts) {
    EXPECT_FALSE(read_actual({{"actual", value}})) << value;
    EXPECT_FALSE(read_memory_size({{"base-memory", value}})) << value;
    EXPECT_FALSE(read_memory_size({{"base-memory", 5U}, {"plugged-memory", value}})) << value;
    EXPECT_FALSE(read_polling_interval(value)) << value;
    EXPECT_FALSE(read_disk_reads(json::array({{{"stats", {{"rd_bytes", value}}}}}))) << value;
    EXPECT_FALSE(read_statistics({{"stats", json::object()}, {"last-update", value}})) << value;
    if (value == -1) continue;  // how some versions write what they do not know
    for (const auto& [tag, usual] : usual_tags.items())
      EXPECT_FALSE(read_statistics(statistics_with(tag.c_str(), value))) << tag << " " << value;
  }
}

TEST(Readings, AHugeNumberIsTakenAsItIsAndBoundedWhereThoseOfAllBackendsAre) {
  constexpr std::uint64_t kHuge = 1ULL << 63;
  EXPECT_EQ(read_actual({{"actual", kHuge}}).value(), Bytes{kHuge});
  EXPECT_EQ(read_memory_size({{"base-memory", kHuge}}).value(), Bytes{kHuge});
  EXPECT_EQ(read_statistics(statistics_with("stat-available-memory", kHuge)).value().available, Bytes{kHuge});
  EXPECT_EQ(read_polling_interval(kHuge).value(), std::chrono::hours(24 * 365));
}

}  // namespace
}  // namespace balloon::daemon::qmp
