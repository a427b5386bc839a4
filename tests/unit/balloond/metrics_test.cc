// SPDX-License-Identifier: Apache-2.0
// What is exported: few enough series a guest, and each family in the table of docs/metrics.md.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <time.h>

#include <array>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <map>
#include <regex>
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
  for (auto* const size : {&said.swap_in, &said.swap_out, &said.free, &said.total, &said.available,
                           &said.disk_caches, &said.disk_read})
    *size = Bytes{1};
  for (auto* const count : {&said.major_faults, &said.minor_faults, &said.hugetlb_allocations,
                            &said.hugetlb_failures, &said.oom_kills, &said.alloc_stalls, &said.async_scans,
                            &said.direct_scans, &said.async_reclaims, &said.direct_reclaims})
    *count = 1;
  guest.plan.state = policy::GuestState::controlled;
  guest.plan.need = kGiB;
  guest.plan.why.source = policy::Source::statistics;
  guest.actual = kGiB / 2;
  return guest;
}

struct Sample {
  std::map<std::string, std::string> labels;
  double value = 0;
};

struct Family {
  std::string kind, help;
  std::vector<Sample> samples;
};

/// Of a page in Prometheus' text format; histograms' parts go by their family.
std::map<std::string, Family> parse(const std::string& page) {
  static const std::regex line_form("([a-zA-Z_:]+)(?:\\{(.*)\\})? ([^ ]+)");
  static const std::regex label_form("([a-z_]+)=\"((?:[^\"\\\\]|\\\\.)*)\"");
  std::map<std::string, Family> families;
  std::string newest;
  std::istringstream lines(page);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("# HELP ")) {
      newest = line.substr(7, line.find(' ', 7) - 7);
      families[newest].help = line.substr(8 + newest.size());
    } else if (line.starts_with("# TYPE ")) {
      families[newest].kind = line.substr(8 + newest.size());
    } else {
      std::smatch parts;
      EXPECT_TRUE(std::regex_match(line, parts, line_form)) << line;
      EXPECT_TRUE(parts[1].str().starts_with(newest)) << line << " stands in family " << newest;
      Sample& sample = families[newest].samples.emplace_back();
      sample.value = std::strtod(parts[3].str().c_str(), nullptr);
      const std::string labels = parts[2];
      for (std::sregex_iterator each(labels.begin(), labels.end(), label_form), end; each != end; ++each)
        sample.labels[(*each)[1]] = (*each)[2];
    }
  }
  return families;
}

class MetricsTest : public ::testing::Test {
 protected:
  void publish(std::vector<GuestStatus> guests, std::function<void(State&)> more = [](State&) {}) {
    auto state = std::make_shared<State>();
    state->revision = 1;
    state->wall = clock_.wall();
    state->guests = std::move(guests);
    state->host.has_pressure = true;
    state->host.memory.ksm.emplace();
    state->host.ksm.profit = 1;
    state->at = clock_.now();
    more(*state);
    needs_.observe(*state);
    needs_.renew();
    states_.publish(std::move(state));
  }
  std::map<std::string, Family> collect() const { return parse(collector_.page()); }
  /// Of the sample that has `label` as the value of one of its labels.
  double value(const std::string& family, const std::string& label = "") const {
    const auto all = collect();
    const auto found = all.find(family);
    if (found != all.end()) {
      for (const Sample& each : found->second.samples) {
        if (label.empty() ||
            std::ranges::any_of(each.labels, [&](const auto& pair) { return pair.second == label; }))
          return each.value;
      }
    }
    ADD_FAILURE() << family << " of '" << label << "' is not exported";
    return -1;
  }
  Bytes size(const std::string& family, const std::string& label = "") const {
    return Bytes{value(family, label)};
  }

  test::FakeClock clock_;
  test::FakeTree tree_;
  StateStore states_;
  Counters counters_;
  JournalCounters journal_;
  ReservationBook reservations_{clock_};
  Registry guests_{clock_, tree_.root()};
  NeedHistory needs_{clock_};
  NeedKeeper need_keeper_{clock_, needs_, ""};
  CallCounters calls_;
  std::array<BackendHealth, kBackends.size()> backends_;
  Collector collector_{{.clock = clock_,
                        .states = states_,
                        .counters = counters_,
                        .journal = &journal_,
                        .reservations = reservations_,
                        .calls = calls_,
                        .guests = guests_,
                        .needs = needs_,
                        .need_keeper = need_keeper_,
                        .backends = {&backends_[0], &backends_[1], &backends_[2]}}};
};

TEST_F(MetricsTest, AGuestHasFortySeriesAtMost) {
  publish({talkative_guest("a")});
  clock_.advance(std::chrono::seconds(10));
  publish({talkative_guest("a")});
  std::size_t series = 0;
  for (const auto& [name, family] : collect()) {
    for (const Sample& sample : family.samples) series += sample.labels.contains("guest") ? 1 : 0;
  }
  EXPECT_GT(series, 38U);
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

TEST_F(MetricsTest, AGuestThatIsJudgedByWhatTheHostSeesOfItIsBlind) {
  GuestStatus fell_silent = talkative_guest("a");
  fell_silent.plan.why.source = policy::Source::host;
  publish({fell_silent});
  EXPECT_EQ(value("balloon_guest_blind", "a"), 1) << "or its alert would end with policy's blind_after";
  EXPECT_EQ(value("balloon_guests_blind"), 1);
}

TEST_F(MetricsTest, WhatAGuestUsesIsThereWhereItsStatisticsSayIt) {
  GuestStatus guest = talkative_guest("a");
  publish({guest});
  EXPECT_TRUE(collect().contains("balloon_guest_used_bytes"));
  for (const auto source : {policy::Source::none, policy::Source::host}) {
    guest.plan.why.source = source;
    publish({guest});
    EXPECT_FALSE(collect().contains("balloon_guest_used_bytes"));
  }
}

TEST_F(MetricsTest, GuestsAreCountedByStateAndByWhatTheyHaveOfTheirNeed) {
  publish({talkative_guest("a"), talkative_guest("b")});
  EXPECT_EQ(value("balloon_guests", "controlled"), 2);
  EXPECT_EQ(value("balloon_guests", "stuck"), 0) << "a series from the first second";
  EXPECT_EQ(value("balloon_guests_satisfaction_ratio"), 0.5);
  EXPECT_EQ(value("balloon_backend_guests", "balloon-vmm"), 2);
  EXPECT_EQ(value("balloon_backend_guests", "libvirt"), 0);
  EXPECT_EQ(value("balloon_control_applied"), 1);
  publish({});
  EXPECT_EQ(value("balloon_guests_satisfaction_ratio"), 1) << "nobody lacks anything";
}

TEST_F(MetricsTest, WhatAnAlertWaitsForIsThereBeforeTheFirstDecision) {
  for (const char* family :
       {"balloon_guests_blind", "balloon_guests_contested", "balloon_journal_failing",
        "balloon_reservations_at_risk", "balloon_reservations_failing", "balloon_host_deficit_bytes",
        "balloon_control_last_decision_timestamp_seconds", "balloon_failed_ticks_total"})
    EXPECT_EQ(value(family), 0) << family;
  EXPECT_EQ(value("balloon_guests", "stuck"), 0);
  EXPECT_EQ(value("balloon_guests", "disconnected"), 0);
  EXPECT_EQ(value("balloon_guests", "blind"), 0);
  EXPECT_EQ(value("balloon_decisions_total", "contested"), 0);
  EXPECT_EQ(value("balloon_guests_pressed", "critical"), 0);
  EXPECT_EQ(value("balloon_config_reloads_total", "refused"), 0);
  EXPECT_EQ(value("balloon_decisions_blocked_total", "budget"), 0);
  EXPECT_EQ(value("balloon_reservations_ended_total", "expired"), 0);
  EXPECT_EQ(value("balloon_backend_errors_total", "libvirt"), 0);
  EXPECT_EQ(value("grpc_server_handled_total", "Reserve"), 0);
}

TEST_F(MetricsTest, OfAGuestsStatesTheOneThatItIsInIsThere) {
  GuestStatus stuck = talkative_guest("a");
  stuck.plan.state = policy::GuestState::stuck;
  publish({stuck});
  const auto samples = collect().at("balloon_guest_state").samples;
  ASSERT_EQ(samples.size(), 1U);
  EXPECT_EQ(samples.front().labels.at("state"), "stuck");
  EXPECT_EQ(samples.front().value, 1);
}

TEST_F(MetricsTest, AGuestSaysHowItFares) {
  GuestStatus guest = talkative_guest("a");
  guest.plan.why.pressure = policy::Pressure::critical;
  guest.reversals = 3;
  publish({guest});
  EXPECT_EQ(value("balloon_guest_satisfaction_ratio", "a"), 0.5);
  EXPECT_EQ(value("balloon_guest_pressure", "a"), 2);
  EXPECT_EQ(value("balloon_guest_reversals_total", "a"), 3);
  EXPECT_EQ(value("balloon_guests_pressed", "critical"), 1);
  EXPECT_EQ(value("balloon_guests_pressed", "pressed"), 0);
  guest.plan.need = Bytes{0};
  publish({guest});
  EXPECT_EQ(value("balloon_guest_satisfaction_ratio", "a"), 1) << "it needs nothing";
}

TEST_F(MetricsTest, ASchedulerReadsWhatTheHostCanGiveAndHowSoon) {
  GuestStatus idle = talkative_guest("idle");
  idle.limits.min = kGiB / 4;
  idle.plan.need = kGiB / 2;
  idle.actual = kGiB;
  GuestStatus stuck = idle;
  stuck.record.name = "stuck";
  stuck.plan.state = policy::GuestState::stuck;
  stuck.plan.share = kGiB;
  publish({idle, stuck}, [](State& state) {
    state.reserved = kGiB / 2;
    state.outlook.supply = {.budget = 4 * kGiB, .free = kGiB + kGiB / 2};
    const Bytes low = kGiB / 4, used = kGiB - 300 * kMiB, need = kGiB / 2;
    state.outlook.consumers = {{.levels = policy::Levels({low, used, used, used, used, used, kGiB, kGiB})},
                               {.levels = policy::Levels::all_at(kGiB)},
                               {.levels = policy::Levels::all_at(need)}};
    state.outlook.givers = {{.size = kGiB, .speed = static_cast<double>(kMiB)}, {.size = kGiB}};
  });
  EXPECT_EQ(size("balloon_host_headroom_bytes"), 3 * kGiB / 2);
  EXPECT_EQ(size("balloon_host_reclaimable_bytes", "5s"), 5 * kMiB) << "no faster than its balloon";
  EXPECT_EQ(size("balloon_host_reclaimable_bytes", "5m"), 300 * kMiB) << "nothing of one that is stuck";
  EXPECT_EQ(size("balloon_guest_floor_bytes", "idle"), kGiB / 4);
  EXPECT_EQ(size("balloon_guest_floor_bytes", "stuck"), kGiB);
  EXPECT_EQ(size("balloon_host_bookable_bytes"), 9 * kGiB / 4);
  EXPECT_EQ(value("balloon_host_deficit_bytes"), 0);
  EXPECT_EQ(size("balloon_host_memory_needed_bytes"), 3 * kGiB / 2);
}

TEST_F(MetricsTest, AGuestSaysWhatItNeededOnceThatIsKnown) {
  publish({talkative_guest("a")});
  EXPECT_FALSE(collect().contains("balloon_guest_needed_bytes")) << "nothing has been seen yet";
  clock_.advance(std::chrono::seconds(10));
  publish({talkative_guest("a")});
  const auto samples = collect().at("balloon_guest_needed_bytes").samples;
  EXPECT_EQ(samples.size(), 6U);
  for (const Sample& each : samples) EXPECT_EQ(each.value, static_cast<double>(kGiB));
  EXPECT_EQ(samples.front().labels.at("window"), "day");
  EXPECT_EQ(samples.front().labels.at("percentile"), "95");
}

TEST_F(MetricsTest, AnInfeasibleHostSaysHowMuchHasToLeaveAndWhoHoldsIt) {
  GuestStatus large = talkative_guest("large"), small = talkative_guest("small");
  large.limits.min = 3 * kGiB;
  small.limits.min = kGiB;
  publish({large, small}, [](State& state) {
    state.outlook.supply.budget = 2 * kGiB;
    state.outlook.consumers = {{.levels = policy::Levels::all_at(3 * kGiB)},
                               {.levels = policy::Levels::all_at(kGiB)}};
    state.outlook.givers.resize(2);
  });
  EXPECT_EQ(size("balloon_host_deficit_bytes"), 2 * kGiB);
  EXPECT_EQ(value("balloon_host_bookable_bytes"), 0);
  EXPECT_EQ(size("balloon_guest_floor_bytes", "large"), 3 * kGiB);
}

TEST_F(MetricsTest, ABackendIsDownOnceNothingOfItIsReached) {
  BackendHealth& qemu = backends_[1];
  EXPECT_FALSE(collect().contains("balloon_backend_up")) << "nothing is configured";
  qemu.configured = true;
  EXPECT_EQ(value("balloon_backend_up", "qemu"), 1) << "nothing has failed yet";
  qemu.failing = 1;
  EXPECT_EQ(value("balloon_backend_up", "qemu"), 0);
  qemu.connected = 2;
  EXPECT_EQ(value("balloon_backend_up", "qemu"), 1) << "one socket of three fails";
  EXPECT_EQ(value("balloon_backend_connections", "connected"), 0) << "of balloon-vmm, the first";
}

/// CPU time of this thread: others on the machine do not count.
std::chrono::nanoseconds cpu_time() {
  timespec used{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
  return std::chrono::seconds(used.tv_sec) + std::chrono::nanoseconds(used.tv_nsec);
}

TEST_F(MetricsTest, APageOfAThousandGuestsIsWrittenInTwentyMilliseconds) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  constexpr std::chrono::milliseconds kMost(400);  // sanitizers make it some ten times slower
#else
  constexpr std::chrono::milliseconds kMost(20);
#endif
  std::vector<GuestStatus> guests;
  for (int i = 0; i < 1000; ++i) guests.push_back(talkative_guest(fmt::format("guest-{:04}", i)));
  publish(guests);
  clock_.advance(std::chrono::seconds(10));
  publish(std::move(guests));
  std::chrono::nanoseconds best = std::chrono::hours(1);
  for (int i = 0; i < 5; ++i) {
    const auto before = cpu_time();
    const std::string page = collector_.page();
    best = std::min(best, cpu_time() - before);
    EXPECT_GT(std::ranges::count(page, '\n'), 40'000);
  }
  RecordProperty("milliseconds",
                 fmt::format("{:.2f}", std::chrono::duration<double, std::milli>(best).count()));
  EXPECT_LE(best, kMost);
}

TEST_F(MetricsTest, LabelsAreEscapedAsTheFormatWants) {
  GuestStatus guest = talkative_guest("a");
  guest.record.version = "a \"b\" \\ c\nd";
  publish({guest});
  EXPECT_NE(collector_.page().find(R"(vmm_version="a \"b\" \\ c\nd")"), std::string::npos)
      << collector_.page().substr(0, 4000);
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
  EXPECT_EQ(size("balloon_reservations_bytes", "pending"), kGiB);
  EXPECT_EQ(size("balloon_reservations_lacking_bytes"), kGiB);
  EXPECT_EQ(value("balloon_reservations_at_risk"), 0);
  clock_.advance(std::chrono::seconds(31));
  EXPECT_EQ(value("balloon_reservations_at_risk"), 1) << "more than half of its minute has gone";
  EXPECT_EQ(value("balloon_reservations_oldest_age_seconds", "pending"), 31);
}

TEST_F(MetricsTest, ReloadsAreCountedByWhatBecameOfThem) {
  collector_.note_reload(true);
  collector_.note_reload(false);
  collector_.note_reload(false);
  EXPECT_EQ(value("balloon_config_reloads_total", "taken"), 1);
  EXPECT_EQ(value("balloon_config_reloads_total", "refused"), 2);
  EXPECT_EQ(value("balloon_config_last_reload_successful"), 0);
}

/// docs/metrics.md is made from what is exported: UPDATE_DOCS=1 writes it anew.
TEST_F(MetricsTest, TheTableInTheDocsHasEveryFamily) {
  counters_.shadow_decisions = 1;
  for (BackendHealth& each : backends_) each.configured = true;
  publish({talkative_guest("a")});
  clock_.advance(std::chrono::seconds(10));
  publish({talkative_guest("a")});
  std::map<std::string, std::string> rows;
  for (const auto& [name, family] : collect()) {
    std::set<std::string> labels;
    for (const Sample& sample : family.samples) {
      for (const auto& [label, value] : sample.labels)
        if (label != "le") labels.insert("`" + label + "`");
    }
    rows[name] = fmt::format("| `{}` | {} | {} | {} |\n", name, family.kind,
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
