// SPDX-License-Identifier: Apache-2.0
// The simulated guest beside Linux: the experiments of tests/testbed/guest/facts, done with the plant, held
// to what was measured (linux-facts.json; docs/linux-facts.md says how). Bounds are stated with each: a plant
// that is further off fails.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "policy/sim/guest_plant.h"
#include "policy/sim/scenario_file.h"
#include "policy/sim/stats_channel.h"
#include "policy/sim/world.h"

namespace balloon::policy::sim {
namespace {

using Json = nlohmann::json;

constexpr double kMib = 1 << 20;

const Json& facts() {
  static const Json all = [] {
    std::ifstream file(std::string(CALIBRATION_DIR) + "/linux-facts.json");
    return Json::parse(file);
  }();
  return all;
}

/// A guest with the plant's own effects, and programs that do as the probes do.
class LinuxFacts : public testing::Test {
 protected:
  LinuxFacts() {
    spec.swap.size = Bytes{0};
    spec.free_page_reporting = false;
    wants.kernel = 64 * kMib;
  }
  void start(double memory_mib) {
    spec.memory = static_cast<Bytes>(memory_mib * kMib);
    guest.emplace(spec);
    guest->start(wants);
  }
  void play(double seconds) {
    for (const auto end = now + std::chrono::milliseconds(static_cast<int>(seconds * 1000)); now < end;
         now += kStep)
      guest->step(now, wants, {});
  }
  const GuestCounters& counters() const { return guest->counters(); }

  GuestSpec spec;
  Wants wants;
  std::optional<GuestPlant> guest;
  Time now{};
};

/// A file of 64 MiB was in the cache, a program's memory pushed it out, and it is read once more.
TEST_F(LinuxFacts, AFileThatHadToGiveWayRaisesMajorFaultsOnlyWhereItIsMapped) {
  for (const bool mapped : {false, true}) {
    spec.effects.mapped = mapped ? 1 : 0;
    wants.anon = 0;
    wants.hot = 64 * kMib;
    start(384);
    wants.anon = 310 * kMib;
    play(3);
    const GuestCounters before = counters();
    wants.anon = 10 * kMib;
    play(60);
    const double absent = counters().refaulted - before.refaulted;
    ASSERT_GT(absent, 50 * kMib);
    const double faults = (counters().major_faults - before.major_faults) / (absent / kMib);
    const Json& reread = facts()["reread"];
    if (mapped) {
      EXPECT_GT(faults, reread["sequential"]["mmap_major_faults_per_mib"])
          << "as read-ahead is as good as it can be";
      EXPECT_LT(faults, reread["advised_random"]["mmap_major_faults_per_mib"]) << "as it is switched off";
      const double random = reread["mmap_major_faults_per_mib"];
      EXPECT_NEAR(faults, random, 0.3 * random) << "read-ahead of 32 pages, where Linux reads around in 24";
    } else {
      EXPECT_EQ(faults, reread["read_major_faults_per_mib"].get<double>());
    }
    const double read = (counters().disk_read - before.disk_read) / absent;
    EXPECT_NEAR(read, reread[mapped ? "mmap_disk_bytes_per_byte" : "read_disk_bytes_per_byte"], 0.02);
  }
}

struct Noise {
  double sigma = 0;
  double difference_sigma = 0;
};

Noise noise_of(const std::vector<double>& values) {
  double sum = 0;
  double squares = 0;
  double differences = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    sum += values[i];
    squares += values[i] * values[i];
    if (i > 0) differences += (values[i] - values[i - 1]) * (values[i] - values[i - 1]);
  }
  const auto count = static_cast<double>(values.size());
  return {std::sqrt(squares / count - sum / count * sum / count), std::sqrt(differences / (count - 1))};
}

/// Samples a second apart, of a guest of 1 GiB whose demand is constant.
TEST_F(LinuxFacts, WhatIsAvailableTremblesAsMuchAsItDoesAtRestAndUnderLoad) {
  for (const char* load : {"rest", "load"}) {
    wants.anon = 200 * kMib;
    wants.busy = load == std::string("load") ? 1 : 0;
    start(1024);
    StatsSpec stats;
    stats.age = Time{};
    StatsChannel channel(stats, Time{}, 7);
    std::vector<double> available;
    std::vector<double> free;
    for (int i = 0; i < 3000; ++i) {
      play(1);
      channel.step(now, *guest, false, Lie::none);
      available.push_back(static_cast<double>(*channel.newest()->available) / (1024 * kMib));
      free.push_back(static_cast<double>(*channel.newest()->free) / (1024 * kMib));
    }
    const Json& measured = facts()["noise"][load];
    // Half and double: it is a property of what runs, of which the probe's load is one.
    for (const auto& [name, values] : {std::pair{"available", &available}, std::pair{"free", &free}}) {
      const Noise noise = noise_of(*values);
      const double sigma = measured[std::string(name) + "_sigma_ratio"];
      const double difference = measured[std::string(name) + "_difference_sigma_ratio"];
      EXPECT_GT(noise.sigma, sigma / 2) << name << " at " << load;
      EXPECT_LT(noise.sigma, sigma * 2) << name << " at " << load;
      EXPECT_GT(noise.difference_sigma, difference / 2) << name << " at " << load;
      EXPECT_LT(noise.difference_sigma, difference * 2) << name << " at " << load;
    }
  }
}

/// In a guest of 512 MiB a set of files is read again and again, in its own time, and beside it a stream that
/// is read once. Of the set, what was gone when it was read.
TEST_F(LinuxFacts, AReReadSetBesideAStreamLosesAboutAsMuchAsUnderTheClassicLru) {
  constexpr double kPassSeconds = kHotTouchSeconds;
  double error = 0;
  int cases = 0;
  for (const auto& [name, measured] : facts()["lru"]["classic"].items()) {
    if (!measured.contains("stream_mib")) continue;
    const double set = measured["set_mib"].get<double>() * kMib;
    wants.anon = 0;
    wants.hot = set;
    wants.stream = 0;
    wants.kernel = (512 - set / kMib / measured["set_to_memory_ratio"].get<double>()) * kMib;
    start(512);
    wants.stream = measured["stream_mib"].get<double>() * kMib / kPassSeconds;
    play(5 * kPassSeconds);
    const double before = counters().refaulted;
    play(3 * kPassSeconds);
    const double gone = (counters().refaulted - before) / 3 / set;
    const double figure = measured["reread_evicted_ratio"];
    EXPECT_NEAR(gone, figure, 0.4) << name;
    error += std::abs(gone - figure);
    ++cases;
  }
  ASSERT_GE(cases, 4);
  EXPECT_LT(error / cases, 0.2);
}

/// The rest of its memory is files that were read once; a program takes a part of that, as a balloon does.
TEST_F(LinuxFacts, ABalloonThatTakesWhatIsColdCostsTheHotSetAboutAsMuchAsItDoes) {
  int cases = 0;
  for (const auto& [name, measured] : facts()["lru"]["classic"].items()) {
    if (!measured.contains("taken_mib")) continue;
    const double set = measured["set_mib"].get<double>() * kMib;
    wants.anon = 0;
    wants.hot = set;
    wants.kernel = 92 * kMib;
    wants.stream = 100 * kMib;
    start(512);
    play(10);
    wants.stream = 0;
    play(30);  // what the stream cost the set is back
    const double taken = measured["taken_mib"].get<double>() * kMib;
    const double before = counters().refaulted;
    guest->command(static_cast<Bytes>(guest->memory().size() - taken), now);
    play(30);
    EXPECT_NEAR((counters().refaulted - before) / set, measured["evicted_ratio"].get<double>(), 0.1) << name;
    ++cases;
  }
  EXPECT_GE(cases, 3);
}

/// What is swapped to zram, and what for each page is gone of memory and of CPU time.
TEST_F(LinuxFacts, APageInZramTakesTheMemoryAndCpuOfAHeapsPage) {
  const auto scenario = parse_scenario(
      "summary: s\nduration: 2m\n"
      "host: {memory: 2GiB, own: {constant: 200MiB}, swap: {device: zram, size: 4GiB}}\n"
      "guests:\n  - {name: vm, count: 2, memory: 2GiB, min: 0B, swap: {size: 0B}, "
      "anon: {steps: [[0s, 300MiB], [2s, 1200MiB]]}}\n",
      "zram.yaml");
  ASSERT_TRUE(scenario) << scenario.error().message;
  World world(*scenario, 1);
  for (int i = 0; i < 300; ++i) world.step();
  const HostMemory& memory = world.host().memory();
  ASSERT_GT(memory.swapped, 500 * kMib);
  const double bytes = memory.zram / (memory.swapped / kPageBytes);
  EXPECT_NEAR(bytes, facts()["zram"]["bytes_per_page_heap"].get<double>(), 0.05 * bytes);
  const HostCounters& counters = world.host().counters();
  const Json& native = facts()["zram_native"];
  const double expected = counters.swap_out / kPageBytes * native["cpu_us_per_page_out"].get<double>() +
                          counters.swap_in / kPageBytes * native["cpu_us_per_page_in"].get<double>();
  EXPECT_NEAR(counters.swap_cpu_seconds * 1e6, expected, 0.05 * expected);
}

/// A balloon that takes and gives back a part of its guest twenty times.
TEST_F(LinuxFacts, TwentyRoundsOfABalloonCostAsManyHugePagesAsTheyDo) {
  for (const char* vmm : {"qemu-pc_defrag_never", "balloon-vmm_defrag_never"}) {
    const Json& measured = facts()["huge_pages"][vmm];
    const double memory = measured["memory_mib"];
    const double moved = measured["moved_mib"];
    spec.effects.split = std::string(vmm).starts_with("qemu") ? GuestEffects{}.split : 0;
    wants.anon = 50 * kMib;
    start(memory);
    for (int cycle = 0; cycle < 20; ++cycle) {
      guest->command(static_cast<Bytes>((memory - moved) * kMib), now);
      play(2);
      guest->command(static_cast<Bytes>(memory * kMib), now);
      play(2);
    }
    const double lost = measured["before_mib"].get<double>() - measured["after_20_cycles_mib"].get<double>();
    // A fourth of what was moved: khugepaged of the emulated host had its own time.
    EXPECT_NEAR(guest->split() / kMib, lost, moved / 4) << vmm;
  }
}

}  // namespace
}  // namespace balloon::policy::sim
