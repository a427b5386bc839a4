// SPDX-License-Identifier: Apache-2.0
#include "policy/sim/host_plant.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/bytes.h"

namespace balloon::policy::sim {
namespace {

using testing::DoubleNear;

constexpr double kMib = 1 << 20;

/// A host of 4 GiB with guests of 2 GiB, driven without a world around it.
class HostPlantTest : public testing::Test {
 protected:
  HostPlantTest() {
    spec.memory = 4 * kGiB;
    spec.swap = SwapDevice::plain_nvme(4 * kGiB);
    guest_spec.memory = 2 * kGiB;
    guest_spec.limits = {Bytes{0}, 2 * kGiB, 100, {}};
    guest_spec.free_page_reporting = false;
    guest_spec.effects = GuestEffects::off();
    spec.effects = HostEffects::off();  // on trial in host_effects_test.cc
    own.own = 300 * kMib;
  }

  void start(std::size_t count) {
    host.emplace(spec, 0);
    guests.reserve(count);
    for (std::size_t i = 0; i < count; ++i) {
      guests.emplace_back(guest_spec);
      wants.push_back({.anon = 200 * kMib, .hot = 0, .cold = 0, .kernel = 100 * kMib, .mergeable = 0});
      guests.back().start(wants.back());
    }
    host->take_account(guests);
  }

  /// As the world does it, with the host's room given out in order.
  void play(double seconds) {
    for (const auto end = now + std::chrono::milliseconds(static_cast<int>(seconds * 1000)); now < end;
         now += kStep) {
      host->begin_step(own);
      double room = host->room();
      for (std::size_t i = 0; i < guests.size(); ++i) {
        const double before = guests[i].memory().resident();
        guests[i].step(now, wants[i],
                       {room, host->swap_budget(), std::chrono::duration<double>(spec.swap.latency).count()});
        room -= std::max(0.0, guests[i].memory().resident() - before);
      }
      killed = std::max(killed, host->end_step(now, guests, wants));
      check_conservation();
    }
  }

  void check_conservation() const {
    const HostMemory& memory = host->memory();
    double held = 0;
    for (const GuestPlant& guest : guests) {
      if (guest.running()) held += guest.memory().resident() - guest.memory().merged + kVmmOwn;
    }
    ASSERT_THAT(held + memory.own + memory.cache + memory.arc + memory.free,
                DoubleNear(static_cast<double>(spec.memory), 16.0));
    ASSERT_GE(memory.free, -1.0);
  }

  HostSpec spec;
  GuestSpec guest_spec;
  HostWants own;
  std::optional<HostPlant> host;
  std::vector<GuestPlant> guests;
  std::vector<Wants> wants;
  Time now{};
  int killed = -1;
};

TEST_F(HostPlantTest, WithRoomForAllNobodyWaitsAndNothingIsSwapped) {
  start(2);
  wants[0].anon = 1500 * kMib;
  play(10);
  EXPECT_EQ(host->counters().swap_out, 0);
  EXPECT_EQ(host->counters().some_seconds, 0);
  EXPECT_THAT(guests[0].memory().anon, DoubleNear(1500 * kMib, 1));
}

TEST_F(HostPlantTest, GivesUpItsPageCacheBeforeItSwaps) {
  own.cache = 2000 * kMib;
  start(2);
  play(20);
  ASSERT_THAT(host->memory().cache, DoubleNear(2000 * kMib, kMib));
  wants[0].anon = wants[1].anon = 1400 * kMib;
  play(10);
  EXPECT_LT(host->memory().cache, 1000 * kMib);
  EXPECT_EQ(host->counters().swap_out, 0);
}

TEST_F(HostPlantTest, KeepsALittleCacheForItsOwnPrograms) {
  own.cache = 500 * kMib;
  start(3);
  play(10);
  for (Wants& want : wants) want.anon = 1700 * kMib;
  play(20);
  EXPECT_GE(host->memory().cache, kHostCacheLeast - 1);
}

TEST_F(HostPlantTest, SwapsIdleGuestPagesFirst) {
  start(3);
  for (GuestPlant& guest : guests) guest.step(now, wants[0], {});
  wants[0].anon = 1700 * kMib;
  play(5);
  wants[0].anon = 200 * kMib;  // leaves 1500 MiB of free pages that the guest keeps
  play(2);
  wants[1].anon = wants[2].anon = 1700 * kMib;
  play(10);
  EXPECT_GT(host->counters().swap_out, 500 * kMib);
  EXPECT_GT(guests[0].memory().host_swapped_idle, 300 * kMib);
  EXPECT_LT(guests[1].memory().host_swapped_working, 500 * kMib);
}

TEST_F(HostPlantTest, OverfullItSwapsAndEverybodyFeelsIt) {
  start(3);
  for (Wants& want : wants) want.anon = 1500 * kMib;
  play(30);
  EXPECT_GT(host->counters().swap_out, 600 * kMib);
  EXPECT_GT(host->counters().swap_in, 0);
  EXPECT_GT(host->pressure_some(), 0.05);
  EXPECT_GT(host->counters().some_seconds, 1);
  EXPECT_EQ(killed, -1);
}

TEST_F(HostPlantTest, ASlowSwapDeviceBringsPagesBackSlowly) {
  const auto read_from = [&](const SwapDevice& device) {
    guests.clear();
    wants.clear();
    now = Time{};
    spec.swap = device;
    start(3);
    for (Wants& want : wants) want.anon = 1500 * kMib;
    play(60);
    return host->counters().swap_in;
  };
  EXPECT_GT(read_from(SwapDevice::plain_zram(4 * kGiB)), 5 * read_from(SwapDevice::plain_hdd(4 * kGiB)));
}

TEST_F(HostPlantTest, KillsTheBiggestGuestWhenMemoryAndSwapAreFull) {
  spec.swap = SwapDevice::plain_nvme(200 * kMiB);
  start(3);
  wants[0].anon = 1900 * kMib;
  wants[1].anon = wants[2].anon = 1500 * kMib;
  play(30);
  EXPECT_EQ(killed, 0);
  EXPECT_GE(host->counters().oom_kills, 1);
}

TEST_F(HostPlantTest, ServesItsOwnProcessesBeforeGuests) {
  start(2);
  wants[0].anon = 1600 * kMib;
  play(10);
  own.own = 1800 * kMib;
  play(10);
  EXPECT_THAT(host->memory().own, DoubleNear(1800 * kMib, 1));
}

TEST_F(HostPlantTest, AnArcCountsAsUsedAndShrinksSlowly) {
  own.arc = 1000 * kMib;
  start(2);
  play(20);
  ASSERT_THAT(host->memory().arc, DoubleNear(1000 * kMib, kMib));
  EXPECT_LT(host->available(), host->memory().free) << "it is not available";
  wants[0].anon = wants[1].anon = 1700 * kMib;
  play(3);
  const double early = host->memory().arc;
  EXPECT_GT(early, 500 * kMib);
  play(10);
  EXPECT_LT(host->memory().arc, early);
}

class KsmTest : public HostPlantTest {
 protected:
  KsmTest() {
    spec.ksm.present = true;
    spec.ksm.run = true;
    spec.ksm.pages_to_scan = 1000;
    spec.ksm.sleep = std::chrono::milliseconds(10);
  }
};

TEST_F(KsmTest, MergesAtItsScanRateUpToWhatIsTheSame) {
  start(2);
  for (Wants& want : wants) {
    want.anon = 1000 * kMib;
    want.mergeable = 0.4;
  }
  play(3);
  const double early = static_cast<double>(host->ksm_sharing());
  EXPECT_GT(early, 20 * kMib);
  EXPECT_LT(early, 600 * kMib);
  play(200);
  EXPECT_THAT(static_cast<double>(host->ksm_sharing()), DoubleNear(800 * kMib, 20 * kMib));
}

TEST_F(KsmTest, WritesTakeTheMemoryBackAtOnce) {
  start(2);
  for (Wants& want : wants) {
    want.anon = 1000 * kMib;
    want.mergeable = 0.4;
  }
  play(200);
  const double free = host->memory().free;
  for (Wants& want : wants) want.mergeable = 0;
  play(0.2);
  EXPECT_EQ(host->ksm_sharing(), Bytes{0});
  EXPECT_THAT(free - host->memory().free, DoubleNear(800 * kMib, 30 * kMib));
}

TEST_F(KsmTest, DoesNothingWhenItIsStoppedOrAGuestStaysOut) {
  guest_spec.limits.ksm = false;
  start(2);
  for (Wants& want : wants) want.mergeable = 0.4;
  play(30);
  EXPECT_EQ(host->ksm_sharing(), Bytes{0});
  guests.clear();
  wants.clear();
  guest_spec.limits.ksm = true;
  start(2);
  for (Wants& want : wants) want.mergeable = 0.4;
  host->set_ksm({.run = false, .pages_to_scan = 1000, .sleep = std::chrono::milliseconds(10)});
  play(30);
  EXPECT_EQ(host->ksm_sharing(), Bytes{0});
}

}  // namespace
}  // namespace balloon::policy::sim
