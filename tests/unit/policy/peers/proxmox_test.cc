// SPDX-License-Identifier: Apache-2.0
#include "policy/peers/proxmox.h"

#include <gtest/gtest.h>

#include "tests/unit/policy/peers/hosts.h"

namespace balloon::policy::peers {
namespace {

/// A guest with a minimum of 500 MiB.
GuestSnapshot vm(std::string name, std::uint64_t size, std::uint64_t free, std::uint64_t memory = 8000) {
  GuestSnapshot vm = guest(std::move(name), memory, size, free, free);
  vm.limits.min = 500 * kMiB;
  return vm;
}

/// Targets in MiB on a host of 10000 MiB, of which 8000 are to be in use.
std::vector<std::uint64_t> targets(std::uint64_t available, std::vector<GuestSnapshot> vms,
                                   const ProxmoxSettings& settings = {}) {
  Proxmox law(settings);
  std::vector<std::uint64_t> targets;
  for (const GuestPlan& plan : law.decide(host(10000, available, std::move(vms))).guests) {
    targets.push_back(plan.target / kMiB);
  }
  return targets;
}

using Targets = std::vector<std::uint64_t>;

TEST(ProxmoxTest, DoesNothingWithinTenMegabytesOfItsTarget) {
  EXPECT_EQ(targets(2010, {vm("a", 1500, 0)}), Targets{1500});
  EXPECT_EQ(targets(1990, {vm("a", 1500, 400)}), Targets{1500});
}

TEST(ProxmoxTest, ShrinksGuestsWithRoomFirstByAHundredMegabytes) {
  // 200 MiB too much in use. Of its 1000 MiB beyond its minimum the roomy guest is to keep 800.
  EXPECT_EQ(targets(1800, {vm("a", 1500, 400), vm("b", 1500, 50)}), (Targets{1400, 1500}));
}

TEST(ProxmoxTest, ShrinksPressedGuestsWhenNoneHasRoom) {
  EXPECT_EQ(targets(1800, {vm("a", 1500, 50), vm("b", 1500, 50)}), (Targets{1400, 1400}));
}

TEST(ProxmoxTest, ShrinksNoFurtherThanTheMinimum) {
  EXPECT_EQ(targets(0, {vm("a", 550, 400)}), Targets{500});
}

TEST(ProxmoxTest, GrowsPressedGuestsFirst) {
  EXPECT_EQ(targets(2150, {vm("a", 1500, 50), vm("b", 1500, 400)}), (Targets{1600, 1500}));
}

TEST(ProxmoxTest, GrowsAllWhenNoneIsPressed) {
  EXPECT_EQ(targets(2150, {vm("a", 1500, 400), vm("b", 1500, 400)}), (Targets{1575, 1575}));
}

TEST(ProxmoxTest, DividesByShares) {
  std::vector<GuestSnapshot> vms = {vm("a", 500, 0), vm("b", 500, 0), vm("c", 500, 0), vm("d", 500, 0)};
  vms[0].limits.weight = 300;
  // 6000 MiB to give, 3 : 1 : 1 : 1, without the limit of each step.
  EXPECT_EQ(targets(8000, vms, {.maxchange = 100000 * kMiB}), (Targets{3500, 1500, 1500, 1500}));
}

TEST(ProxmoxTest, GivesOthersTheShareOfAGuestAtItsMaximum) {
  EXPECT_EQ(targets(2200, {vm("a", 1020, 0, 1020), vm("b", 1000, 0)}, {.maxchange = 1000 * kMiB}),
            (Targets{1020, 1200}));
}

TEST(ProxmoxTest, LeavesOutGuestsWithoutDriverMinimumOrShares) {
  std::vector<GuestSnapshot> vms = {vm("a", 1500, 400), vm("b", 1500, 400), vm("c", 1500, 400)};
  vms[0].controllable = false;
  vms[1].limits.min = Bytes{0};
  vms[2].limits.weight = 0;
  EXPECT_EQ(targets(0, vms), (Targets{1500, 1500, 1500}));
}

TEST(ProxmoxTest, CountsAGuestWithoutStatisticsAsPressed) {
  std::vector<GuestSnapshot> vms = {vm("a", 1500, 400), vm("b", 1500, 400)};
  vms[0].stats.reset();
  EXPECT_EQ(targets(2150, vms), (Targets{1600, 1500}));
}

TEST(ProxmoxTest, HasAnotherTargetWhenConfigured) {
  EXPECT_EQ(targets(500, {vm("a", 1500, 400)}, {.ballooning_target = 0.95}), Targets{1500});
  EXPECT_EQ(targets(400, {vm("a", 1500, 400)}, {.ballooning_target = 0.95}), Targets{1400});
}

TEST(ProxmoxTest, StartsAGuestAtItsMinimum) {
  Proxmox law;
  law.decide(host(10000, 2000, {}));
  EXPECT_EQ(law.decide(host(10000, 2000, {vm("a", 8000, 7000)})).guests[0].target, 500 * kMiB);
  EXPECT_EQ(law.decide(host(10000, 2000, {vm("a", 8000, 7000)})).guests[0].target, 8000 * kMiB)
      << "only once";
}

TEST(ProxmoxTest, AdoptsGuestsThatRunWhenItStarts) {
  EXPECT_EQ(targets(2000, {vm("a", 8000, 7000)}), Targets{8000});
}

TEST(ProxmoxTest, GrantsTheMinimumWithoutLooking) {
  Snapshot full = host(1000, 0, {});
  full.reservations.push_back({.id = "r", .min = 700 * kMiB, .max = 2000 * kMiB});
  Proxmox law;
  const Plan plan = law.decide(full);
  EXPECT_EQ(plan.reservations[0].state, GrantState::granted);
  EXPECT_EQ(plan.reservations[0].granted, 700 * kMiB);
}

TEST(ProxmoxTest, TunesKsmOnceAMinute) {
  Snapshot snapshot = host(10000, 1000, {});
  snapshot.host.ksm.emplace();
  Proxmox law;
  EXPECT_TRUE(law.decide(snapshot).ksm);
  snapshot.now += std::chrono::seconds(50);
  EXPECT_FALSE(law.decide(snapshot).ksm);
  snapshot.now += std::chrono::seconds(10);
  EXPECT_TRUE(law.decide(snapshot).ksm);
}

}  // namespace
}  // namespace balloon::policy::peers
