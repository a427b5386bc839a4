// What is exported: few enough series a guest, and each family in the table of docs/metrics.md.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <prometheus/metric_family.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "balloond/metrics/collector.h"
#include "tests/unit/balloond/fakes.h"

namespace balloon::daemon {
namespace {

using test::kGiB;
using test::kMiB;

/// A guest that says everything that a guest can say.
GuestStatus talkative_guest(const std::string& name) {
  GuestStatus guest;
  guest.record.name = name;
  guest.record.hypervisor = "balloon-vmm";
  guest.record.version = "1";
  guest.record.memory = 2 * kGiB;
  guest.record.connected = true;
  guest.record.usable.emplace();
  guest.record.merging = true;
  guest.record.counters.emplace();
  StatsSample& said = guest.record.said.emplace();
  said.sampled_at = WallTime(std::chrono::seconds(1));
  said.round_trip = std::chrono::milliseconds(1);
  for (auto* const number :
       {&said.swap_in, &said.swap_out, &said.free, &said.total, &said.available, &said.disk_caches,
        &said.major_faults, &said.minor_faults, &said.hugetlb_allocations, &said.hugetlb_failures,
        &said.oom_kills, &said.alloc_stalls, &said.async_scans, &said.direct_scans, &said.disk_read,
        &said.async_reclaims, &said.direct_reclaims})
    *number = 1;
  guest.plan.state = policy::GuestState::controlled;
  guest.plan.need = kGiB;
  guest.actual = kGiB / 2;
  return guest;
}

class MetricsTest : public ::testing::Test {
 protected:
  void publish(std::vector<GuestStatus> guests) {
    auto state = std::make_shared<State>();
    state->revision = 1;
    state->guests = std::move(guests);
    state->host.has_pressure = true;
    state->host.memory.ksm.emplace();
    state->host.ksm.profit = 1;
    states_.publish(std::move(state));
  }
  std::vector<prometheus::MetricFamily> collect() const {
    return Collector(clock_, states_, counters_, &journal_, reservations_).Collect();
  }
  double value(const std::string& family, const std::string& label = "") const {
    for (const auto& each : collect()) {
      if (each.name != family) continue;
      for (const auto& metric : each.metric) {
        if (label.empty() || (!metric.label.empty() && metric.label.front().value == label))
          return each.type == prometheus::MetricType::Counter ? metric.counter.value : metric.gauge.value;
      }
    }
    ADD_FAILURE() << family << " of '" << label << "' is not exported";
    return -1;
  }

  test::FakeClock clock_;
  StateStore states_;
  Counters counters_;
  JournalCounters journal_;
  ReservationBook reservations_{clock_};
};

TEST_F(MetricsTest, AGuestHasFortySeriesAtMost) {
  publish({talkative_guest("a")});
  std::size_t series = 0;
  for (const auto& family : collect()) {
    for (const auto& metric : family.metric) {
      series += std::ranges::any_of(
          metric.label, [](const auto& label) { return label.name == "guest" && label.value == "a"; });
    }
  }
  EXPECT_GT(series, 30U);
  EXPECT_LE(series, 40U);
}

TEST_F(MetricsTest, AGuestThatNeverSentStatisticsIsBlindFromTheFirstSecond) {
  GuestStatus silent;
  silent.record.name = "silent";
  silent.plan.state = policy::GuestState::booting;
  publish({talkative_guest("a"), silent});
  EXPECT_EQ(value("balloon_guest_blind", "a"), 0);
  EXPECT_EQ(value("balloon_guest_blind", "silent"), 1);
  EXPECT_EQ(value("balloon_guests_blind"), 1);
}

TEST_F(MetricsTest, GuestsAreCountedByStateAndByWhatTheyHaveOfTheirNeed) {
  publish({talkative_guest("a"), talkative_guest("b")});
  EXPECT_EQ(value("balloon_guests", "controlled"), 2);
  EXPECT_EQ(value("balloon_guests", "stuck"), 0) << "a series from the first second";
  EXPECT_EQ(value("balloon_guests_satisfaction_ratio"), 0.5);
  EXPECT_EQ(value("balloon_backend_guests", "balloon-vmm"), 2);
  EXPECT_EQ(value("balloon_control_applied"), 1);
  publish({});
  EXPECT_EQ(value("balloon_guests_satisfaction_ratio"), 1) << "nobody lacks anything";
}

TEST_F(MetricsTest, ReservationsAreCountedByState) {
  ASSERT_TRUE(reservations_.ask({.id = "new",
                                 .min = kGiB,
                                 .max = kGiB,
                                 .within = std::chrono::minutes(1),
                                 .lease = std::chrono::minutes(1)},
                                this, [](const ReservationOutcome&) {}));
  EXPECT_EQ(value("balloon_reservations", "pending"), 1);
  EXPECT_EQ(value("balloon_reservations", "granted"), 0);
  EXPECT_EQ(value("balloon_reservations_bytes", "pending"), static_cast<double>(kGiB));
}

const char* word(prometheus::MetricType type) {
  return type == prometheus::MetricType::Counter     ? "counter"
         : type == prometheus::MetricType::Histogram ? "histogram"
                                                     : "gauge";
}

/// docs/metrics.md is made from what is exported: UPDATE_DOCS=1 writes it anew.
TEST_F(MetricsTest, TheTableInTheDocsHasEveryFamily) {
  counters_.shadow_decisions = 1;
  publish({talkative_guest("a")});
  std::map<std::string, std::string> rows;
  for (const auto& family : collect()) {
    std::set<std::string> labels;
    for (const auto& metric : family.metric) {
      for (const auto& label : metric.label) labels.insert("`" + label.name + "`");
    }
    rows[family.name] =
        fmt::format("| `{}` | {} | {} | {} |\n", family.name, word(family.type),
                    labels.empty() ? "–" : fmt::format("{}", fmt::join(labels, ", ")), family.help);
  }
  std::string table = "| metric | kind | labels | meaning |\n| --- | --- | --- | --- |\n";
  for (const auto& [name, row] : rows) table += row;
  std::stringstream kept;
  kept << std::ifstream(METRICS_DOC).rdbuf();
  const std::string docs = kept.str();
  const std::size_t begin = docs.find("| metric | kind |");
  ASSERT_NE(begin, std::string::npos) << "docs/metrics.md has no table";
  if (std::getenv("UPDATE_DOCS") != nullptr) {
    std::ofstream(METRICS_DOC) << docs.substr(0, begin) << table;
  } else {
    EXPECT_EQ(docs.substr(begin), table) << "run this test with UPDATE_DOCS=1";
  }
}

}  // namespace
}  // namespace balloon::daemon
