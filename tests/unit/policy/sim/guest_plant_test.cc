// SPDX-License-Identifier: Apache-2.0
#include "policy/sim/guest_plant.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/bytes.h"

namespace balloon::policy::sim {
namespace {

using testing::DoubleNear;

constexpr double kMib = 1 << 20;
constexpr double kTolerance = 0.5 * kMib;

/// A guest of 1 GiB and what its programs want, played step by step.
class GuestPlantTest : public testing::Test {
 protected:
  GuestPlantTest() {
    spec.name = "g";
    spec.memory = kGiB;
    spec.limits = {Bytes{0}, kGiB, 100, {}};
    spec.swap = {512 * kMiB, std::chrono::microseconds(100), 200 * kMib};
    spec.free_page_reporting = false;
    spec.command_latency = Time{};
    spec.effects = GuestEffects::off();  // they are on trial in guest_effects_test.cc
    wants.kernel = 64 * kMib;
    wants.anon = 200 * kMib;
  }

  GuestPlant& start() {
    guest.emplace(spec);
    guest->start(wants);
    return *guest;
  }

  void play(double seconds, const HostGrant& grant = {}) {
    const auto end = now + std::chrono::milliseconds(static_cast<int>(seconds * 1000));
    for (; now < end; now += kStep) {
      guest->step(now, wants, grant);
      check_conservation();
    }
  }

  void check_conservation() const {
    if (!guest->running()) return;
    const GuestMemory& memory = guest->memory();
    ASSERT_THAT(memory.size() + memory.balloon, DoubleNear(static_cast<double>(spec.memory), 1.0));
    for (const double part :
         {memory.anon, memory.hot, memory.cold, memory.kernel, memory.free_backed, memory.free_unbacked,
          memory.balloon, memory.swapped, memory.host_swapped_idle, memory.host_swapped_working})
      ASSERT_GE(part, -1.0);
  }

  void shrink_to(double mib) { guest->command(static_cast<Bytes>(mib * kMib), now); }
  double free_floor() const { return low_watermark(static_cast<double>(spec.memory)); }

  GuestSpec spec;
  Wants wants;
  std::optional<GuestPlant> guest;
  Time now{};
};

TEST_F(GuestPlantTest, StartsWithWhatItsProgramsWant) {
  start();
  EXPECT_EQ(guest->memory().anon, wants.anon);
  EXPECT_EQ(guest->memory().kernel, wants.kernel);
  EXPECT_EQ(guest->deficit(wants), 0);
  EXPECT_EQ(guest->memory().resident(), wants.anon + wants.kernel) << "free memory was never touched";
}

TEST_F(GuestPlantTest, InflatesOverFreeMemoryAt1670MiBASecond) {
  spec.memory = 8 * kGiB;
  start();
  shrink_to(1024);
  play(1);
  EXPECT_THAT(guest->memory().balloon, DoubleNear(1.67 * 1024 * kMib, kMib));
}

TEST_F(GuestPlantTest, InflatesOverCacheAt950MiBASecond) {
  spec.memory = 8 * kGiB;
  spec.cold_rate = 1e18;
  wants.cold = 8 * 1024 * kMib;
  start();
  play(12);  // the cache fills all that is free, as fast as the host installs it
  ASSERT_LT(guest->memory().free(), free_floor() + kMib);
  shrink_to(1024);
  play(1);
  EXPECT_THAT(guest->memory().balloon, DoubleNear(0.95 * 1024 * kMib, 0.02 * 1024 * kMib));
}

TEST_F(GuestPlantTest, InflatesOverAnonymousMemoryAtTheSpeedOfItsSwap) {
  wants.anon = 900 * kMib;
  start();
  shrink_to(400);
  play(1);
  const double spare = 1024 * kMib - 964 * kMib - free_floor();
  EXPECT_THAT(guest->memory().balloon, DoubleNear(spare + 200 * kMib, 25 * kMib));
  EXPECT_GT(guest->memory().swapped, 150 * kMib);
}

TEST_F(GuestPlantTest, RunsOutOfPuffWhenNothingCanBeFreedAndTriesAgain) {
  spec.swap.size = Bytes{0};
  wants.anon = 900 * kMib;
  start();
  shrink_to(400);
  play(2);
  const double stuck = guest->memory().balloon;
  EXPECT_THAT(stuck, DoubleNear(1024 * kMib - 964 * kMib - free_floor(), kMib));
  wants.anon = 500 * kMib;  // its programs give some back
  play(0.5);
  EXPECT_GT(guest->memory().balloon, stuck + 100 * kMib) << "it is retried every 200 ms";
}

TEST_F(GuestPlantTest, DeflatesAt2300MiBASecond) {
  spec.memory = 8 * kGiB;
  start();
  shrink_to(1024);
  play(8);
  ASSERT_THAT(guest->memory().size(), DoubleNear(1024 * kMib, kTolerance));
  guest->command(spec.memory, now);
  play(1);
  EXPECT_THAT(guest->memory().size() - 1024 * kMib, DoubleNear(2.3 * 1024 * kMib, kMib));
}

TEST_F(GuestPlantTest, SeesACommandOnlyAfterItsLatency) {
  start();
  guest->command(512 * kMiB, now + std::chrono::milliseconds(250));
  play(0.2);
  EXPECT_EQ(guest->memory().balloon, 0);
  play(0.1);
  EXPECT_THAT(guest->memory().balloon, DoubleNear(1.67 * 1024 * kMib * 0.05, kMib)) << "half a step was left";
}

TEST_F(GuestPlantTest, FollowsEachCommandThoughAnotherIsOnItsWay) {
  start();
  for (int i = 0; i < 10; ++i) {
    guest->command((896 - i) * kMiB, now + std::chrono::milliseconds(250));
    play(0.1);
  }
  EXPECT_THAT(guest->memory().size(), DoubleNear(896 * kMib, 16 * kMib)) << "not only once the last was seen";
}

TEST_F(GuestPlantTest, CommandsThatChangeLittleDoNotHoldUpABalloonThatMoves) {
  start();
  guest->command(512 * kMiB, now);
  for (int i = 1; i <= 2; ++i) {
    play(0.1);
    guest->command((512 - i) * kMiB, now + std::chrono::milliseconds(50));
  }
  EXPECT_THAT(guest->memory().balloon, DoubleNear(1.67 * 1024 * kMib * 0.2, kTolerance));
}

TEST_F(GuestPlantTest, ProgramsTakeNewMemoryAt700MiBASecond) {
  spec.memory = 4 * kGiB;
  start();
  wants.anon = 3000 * kMib;
  play(1);
  EXPECT_THAT(guest->memory().anon, DoubleNear(200 * kMib + 0.7 * 1024 * kMib, kMib));
}

TEST_F(GuestPlantTest, EvictsFreeMemoryFirstThenColdThenHotFilesThenAnonymous) {
  wants.hot = 150 * kMib;
  wants.cold = 200 * kMib;
  spec.cold_rate = 1e18;
  start();
  play(2);
  const GuestMemory full = guest->memory();
  ASSERT_THAT(full.cold, DoubleNear(200 * kMib, 1));
  const double spare = full.free() - free_floor();
  const auto shrink_by = [&](double bytes) {
    guest->command(static_cast<Bytes>(1024 * kMib - bytes), now);
    wants.cold = 0;  // nobody reads cold files again meanwhile
    play(0.4);
  };
  shrink_by(spare);
  EXPECT_THAT(guest->memory().cold, DoubleNear(200 * kMib, kTolerance)) << "free memory was enough";
  shrink_by(spare + 150 * kMib);
  EXPECT_THAT(guest->memory().cold, DoubleNear(50 * kMib, kTolerance));
  EXPECT_EQ(guest->memory().hot, 150 * kMib);
  EXPECT_EQ(guest->counters().refaulted, 0);
  shrink_by(spare + 260 * kMib);
  EXPECT_LT(guest->memory().cold, kTolerance);
  EXPECT_THAT(guest->memory().hot, DoubleNear(90 * kMib, 15 * kMib));
  EXPECT_EQ(guest->memory().swapped, 0);
  shrink_by(spare + 450 * kMib);
  EXPECT_LT(guest->memory().hot, 15 * kMib);
  EXPECT_GT(guest->memory().swapped, 30 * kMib);
}

TEST_F(GuestPlantTest, ReadsEvictedHotFilesAgainAndPaysForIt) {
  wants.hot = 400 * kMib;
  start();
  shrink_to(500);
  play(2);
  ASSERT_LT(guest->memory().hot, 300 * kMib);
  EXPECT_GT(guest->counters().refaulted, 0);
  EXPECT_GT(guest->counters().major_faults, 0);
  EXPECT_GT(guest->deficit(wants), 100 * kMib);
  guest->command(spec.memory, now);
  play(60);
  EXPECT_LT(guest->deficit(wants), kMib) << "with the memory back, all hot files are read again";
}

TEST_F(GuestPlantTest, BringsSwappedWorkingMemoryBackWhenThereIsRoom) {
  wants.anon = 800 * kMib;
  start();
  shrink_to(600);
  play(5);
  ASSERT_GT(guest->memory().swapped, 200 * kMib);
  ASSERT_GT(guest->stalled(), 0.5) << "its programs thrash";
  guest->command(spec.memory, now);
  play(60);
  EXPECT_LT(guest->memory().swapped, kMib);
  EXPECT_EQ(guest->deficit(wants), 0);
  EXPECT_EQ(guest->stalled(), 0);
}

TEST_F(GuestPlantTest, LeavesIdleMemoryInSwap) {
  spec.anon_idle = 0.5;
  wants.anon = 800 * kMib;
  start();
  shrink_to(600);
  play(10);
  ASSERT_GT(guest->memory().swapped, 200 * kMib);
  EXPECT_EQ(guest->deficit(wants), 0) << "what is swapped is not used";
  EXPECT_EQ(guest->counters().swap_in, 0);
}

TEST_F(GuestPlantTest, KillsAProgramWhenItHasNeitherMemoryNorSwap) {
  spec.swap.size = Bytes{0};
  spec.deflate_on_oom = false;
  start();
  shrink_to(400);
  play(1);
  wants.anon = 800 * kMib;
  play(2);
  EXPECT_EQ(guest->counters().oom_kills, 1);
  EXPECT_GT(guest->deficit(wants), 400 * kMib);
}

TEST_F(GuestPlantTest, TakesFromTheBalloonBeforeItKillsWhenThatIsNegotiated) {
  spec.swap.size = Bytes{0};
  spec.deflate_on_oom = true;
  start();
  shrink_to(400);
  play(1);
  wants.anon = 450 * kMib;
  for (int i = 0; i < 50; ++i) {
    guest->command(guest->actual(), now);  // nobody asks for it back
    play(0.1);
  }
  EXPECT_EQ(guest->counters().oom_kills, 0);
  EXPECT_GT(guest->memory().size(), 500 * kMib);
}

TEST_F(GuestPlantTest, BalloonDoesNothingWithoutADriver) {
  spec.driver = Driver::absent;
  start();
  shrink_to(500);
  play(2);
  EXPECT_EQ(guest->memory().balloon, 0);
  EXPECT_FALSE(guest->driver_up(now));
}

TEST_F(GuestPlantTest, StuckBalloonDoesNotGoBelowItsLevel) {
  spec.driver = Driver::stuck;
  spec.stuck_at = 800 * kMiB;
  start();
  shrink_to(500);
  play(5);
  EXPECT_THAT(guest->memory().size(), DoubleNear(800 * kMib, kTolerance));
}

TEST_F(GuestPlantTest, SlowBalloonMovesAPageInFiveSeconds) {
  spec.driver = Driver::slow;
  start();
  shrink_to(500);
  play(50);
  EXPECT_THAT(guest->memory().balloon, DoubleNear(10 * 4096, 4096));
}

TEST_F(GuestPlantTest, PinnedMemoryStaysResidentWhateverTheBalloonSays) {
  spec.pinned = true;
  start();
  shrink_to(500);
  play(2);
  EXPECT_THAT(guest->memory().size(), DoubleNear(500 * kMib, kTolerance));
  EXPECT_THAT(guest->memory().resident(), DoubleNear(1024 * kMib, 1));
  EXPECT_EQ(guest->swap_out(100 * kMib, 100 * kMib), 0);
}

TEST_F(GuestPlantTest, FreedMemoryStaysTheHostsUntilItIsReportedOrTaken) {
  start();
  wants.anon = 600 * kMib;
  play(3);
  wants.anon = 200 * kMib;
  play(3);
  EXPECT_THAT(guest->memory().free_backed, DoubleNear(400 * kMib, kTolerance));
  shrink_to(300);
  play(1);
  EXPECT_LT(guest->memory().free_backed, 40 * kMib) << "the balloon gave it to the host";
}

TEST_F(GuestPlantTest, FreePageReportingGivesFreedMemoryBackWithinSeconds) {
  spec.free_page_reporting = true;
  start();
  wants.anon = 600 * kMib;
  play(3);
  wants.anon = 200 * kMib;
  play(1);
  EXPECT_GT(guest->memory().free_backed, 200 * kMib) << "not at once";
  play(10);
  EXPECT_LT(guest->memory().free_backed, 40 * kMib);
}

TEST_F(GuestPlantTest, GrowsNoFasterThanTheHostInstalls) {
  start();
  wants.anon = 600 * kMib;
  play(1, {.install = 2 * kMib, .swap_in = 1e18, .swap_latency = 0});
  EXPECT_THAT(guest->memory().anon, DoubleNear(220 * kMib, kMib));
  EXPECT_EQ(guest->host_stalled(), 1.0);
}

TEST_F(GuestPlantTest, WorkingPagesInHostSwapAreADeficitUntilTheyAreReadBack) {
  start();
  ASSERT_THAT(guest->swap_out(0, 100 * kMib), DoubleNear(100 * kMib, 1));
  EXPECT_THAT(guest->deficit(wants), DoubleNear(100 * kMib, 1));
  EXPECT_THAT(guest->memory().resident(), DoubleNear(164 * kMib, 1));
  play(30, {.install = 1e18, .swap_in = 1e18, .swap_latency = 100e-6});
  EXPECT_LT(guest->deficit(wants), kMib);
  EXPECT_GT(guest->counters().host_swap_in, 99 * kMib);
}

TEST_F(GuestPlantTest, ASlowHostSwapDeviceIsReadPageByPage) {
  start();
  guest->swap_out(0, 100 * kMib);
  play(1, {.install = 1e18, .swap_in = 1e18, .swap_latency = 10e-3});
  EXPECT_THAT(guest->counters().host_swap_in, DoubleNear(4 * 4096 / 10e-3, 8192)) << "four pages each 10 ms";
  EXPECT_GT(guest->host_stalled(), 0.9);
}

TEST_F(GuestPlantTest, SwappedIdlePagesAreForgottenWhenTheBalloonTakesThem) {
  wants.cold = 500 * kMib;
  spec.cold_rate = 1e18;
  start();
  play(2);
  guest->swap_out(400 * kMib, 0);
  ASSERT_THAT(guest->memory().host_swapped(), DoubleNear(400 * kMib, 1));
  wants.cold = 0;
  shrink_to(280);
  play(3);
  EXPECT_LT(guest->memory().host_swapped(), 50 * kMib);
  EXPECT_EQ(guest->counters().host_swap_in, 0) << "nothing had to be read for that";
}

TEST_F(GuestPlantTest, AvailableIsFreeAndCacheLessTheWatermarks) {
  wants.cold = 300 * kMib;
  spec.cold_rate = 1e18;
  start();
  play(2);
  const GuestMemory& memory = guest->memory();
  EXPECT_THAT(guest->available(), DoubleNear(memory.free() + memory.cold - 2 * free_floor(), 1));
}

TEST_F(GuestPlantTest, CountsStallsAndDirectReclaimWhenItReclaimsInAHurry) {
  wants.anon = 900 * kMib;
  start();
  shrink_to(700);
  play(2);
  EXPECT_GT(guest->counters().alloc_stalls, 0);
  EXPECT_GT(guest->counters().direct_scans, guest->counters().direct_reclaims);
}

TEST_F(GuestPlantTest, IsGoneWhenItIsStopped) {
  start();
  guest->stop();
  play(1);
  EXPECT_EQ(guest->memory().resident(), 0);
  EXPECT_FALSE(guest->running());
}

}  // namespace
}  // namespace balloon::policy::sim
