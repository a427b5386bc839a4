// SPDX-License-Identifier: Apache-2.0
// What swap devices and an ARC cost the host.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/bytes.h"
#include "policy/sim/scenario_file.h"
#include "policy/sim/world.h"

namespace balloon::policy::sim {
namespace {

using testing::DoubleNear;

constexpr double kMib = 1 << 20;

class HostEffectsTest : public testing::Test {
 protected:
  /// Two guests that want 2,400 MiB on a host of 2 GiB; from 30 s on they want 600.
  void make_overfull(const std::string& swap, const std::string& more = "") {
    make("host: {memory: 2GiB, own: {constant: 200MiB}, swap: {size: 4GiB" + swap +
         "}}\nguests:\n  - {name: vm, count: 2, memory: 2GiB, min: 0B, swap: {size: 0B}, "
         "anon: {steps: [[0s, 300MiB], [2s, 1200MiB], [30s, 300MiB]]}}\n" +
         more);
  }
  void make(const std::string& text) {
    auto read = parse_scenario("summary: test\nduration: 10m\n" + text, "test.yaml");
    ASSERT_TRUE(read) << read.error().message;
    scenario = std::move(*read);
    world.emplace(scenario, 1);
  }
  void play(double time) {
    for (int i = 0; i < static_cast<int>(time * 10); ++i) {
      world->step();
      const HostMemory& host = world->host().memory();
      ASSERT_THAT(host.own + host.cache + host.arc + host.zram + host.guests + host.free,
                  DoubleNear(static_cast<double>(scenario.host.memory), 64));
      ASSERT_GE(host.free, -1);
    }
  }
  const HostMemory& memory() const { return world->host().memory(); }
  double stalled() const {
    double sum = 0;
    for (const GuestPlant& guest : world->guests()) {
      const Charged& charged = guest.counters().charged;
      sum += charged.host_swap + charged.host_cpu;
    }
    return sum;
  }

  Scenario scenario;
  std::optional<World> world;
};

TEST_F(HostEffectsTest, ZramTakesMemoryForWhatItHolds) {
  make_overfull(", device: zram");
  play(25);
  EXPECT_GT(memory().swapped, 600 * kMib);
  EXPECT_NEAR(memory().zram, kZramMemoryRatio * memory().swapped, 1);
  const double on_zram = memory().swapped;
  make_overfull(", device: nvme");
  play(25);
  EXPECT_EQ(memory().zram, 0);
  EXPECT_GT(on_zram, 1.2 * memory().swapped) << "more must be swapped to win as much";
}

TEST_F(HostEffectsTest, ZramTakesCpuEachWay) {
  make_overfull(", device: zram");
  play(25);
  const HostCounters& counters = world->host().counters();
  EXPECT_NEAR(counters.swap_cpu_seconds,
              counters.swap_out / kPageBytes * kZramCpuOut + counters.swap_in / kPageBytes * kZramCpuIn,
              1e-3);
  double charged = 0;
  for (const GuestPlant& guest : world->guests()) charged += guest.counters().charged.host_cpu;
  EXPECT_NEAR(charged, counters.swap_out / kPageBytes * kZramCpuOut, 0.05 * charged);
  EXPECT_GT(charged, 0.1);
}

TEST_F(HostEffectsTest, WhereCpusAreFewCompressionTakesThemFromGuests) {
  const auto filled = [&](const char* device) {
    make_overfull(device, "speeds: {cpus: 1}\n");
    play(5);
    return world->guests()[0].memory().anon + world->guests()[1].memory().anon;
  };
  EXPECT_LT(filled(", device: zram"), filled(", bandwidth: 1000GiB, latency: 0s"));
}

TEST_F(HostEffectsTest, AnArmServesOneRequestAtATimeWhoeverAsks) {
  make_overfull(", device: hdd");
  play(30);
  const double before = world->host().counters().swap_in;
  play(10);
  EXPECT_LE(world->host().counters().swap_in - before, 10 * kPageBytes / 12.37e-3 * 1.01);
  const double disk = stalled();
  make_overfull(", device: nvme");
  play(40);
  EXPECT_GT(disk, 1.5 * stalled());
}

TEST_F(HostEffectsTest, WritingTakesLongerThanReadingOnFlash) {
  EXPECT_GT(SwapDevice::nvme(kGiB).write_factor, 2);
  make_overfull(", device: nvme");
  play(4);
  EXPECT_LE(world->host().counters().swap_out, 2 * 1.05e9 + kMib) << "since the load came, 2 s ago";
}

TEST_F(HostEffectsTest, ADeviceWithFiguresOfItsOwnHasNoOthers) {
  make("host: {swap: {size: 1GiB, bandwidth: 100MiB, latency: 1ms}}\nguests: [{name: a}]\n");
  EXPECT_EQ(scenario.host.swap.bandwidth, 100 * kMib);
  EXPECT_EQ(scenario.host.swap.write_factor, 1);
  EXPECT_GT(scenario.host.swap.requests, 1e12);
}

TEST_F(HostEffectsTest, AnArcGivesUpOneInAHundredAndTwentyEightASecondAndWhatIsMissing) {
  make(
      "host: {memory: 8GiB, own: {steps: [[0s, 400MiB], [60s, 7GiB]]}, arc: {constant: 4GiB}}\n"
      "guests: [{name: a, memory: 512MiB, anon: {constant: 100MiB}}]\n");
  play(59);
  ASSERT_NEAR(memory().arc, 4096 * kMib, kMib);
  play(2);
  const double first = memory().arc;
  EXPECT_GT(first, 1024 * kMib) << "not all at once";
  play(120);
  EXPECT_GE(memory().arc, 256 * kMib - 1) << "1/32 of memory is its own";
  EXPECT_LT(memory().arc, first);
}

TEST_F(HostEffectsTest, AnArcsMinimumCanBeSet) {
  make(
      "host: {memory: 8GiB, own: {steps: [[0s, 400MiB], [60s, 6GiB]]}, arc: {constant: 4GiB}, arc_min: "
      "1GiB}\n"
      "guests: [{name: a, memory: 2GiB, anon: {steps: [[0s, 100MiB], [60s, 1500MiB]]}}]\n");
  play(180);
  EXPECT_NEAR(memory().arc, 1024 * kMib, kMib);
}

}  // namespace
}  // namespace balloon::policy::sim
