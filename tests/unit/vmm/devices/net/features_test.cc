// SPDX-License-Identifier: Apache-2.0
// What a network device offers and accepts, through the transport: dependencies of features, and vhost's
// part.
#include "tests/unit/vmm/devices/net/fake_vhost.h"
#include "tests/unit/vmm/devices/net/net_fixture.h"
#include "tests/unit/vmm/pci/device_guest.h"

namespace balloon::vmm::test {
namespace {

using namespace net_feature;  // NOLINT: what the drivers negotiate

class NetFeaturesTest : public ::testing::Test {
 protected:
  void start(NetConfig config = {}, TransportConfig transport = {}) {
    config.tap = kTap;
    auto net = create_net(config, memory_, *loop_, vhost_);
    if (!net) throw std::runtime_error(net.error().message);
    guest_.emplace(std::move(*net), memory_, *loop_, transport);
  }

  GuestMemory memory_ = make_memory(16 * kMiB);
  std::unique_ptr<EventLoop> loop_ = *EventLoop::create("test");
  FakeVhost vhost_{memory_};
  HostTap tap_{kTap, IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE};
  std::optional<DeviceGuest> guest_;
};

TEST_F(NetFeaturesTest, EveryRuleOfTheSpecificationIsEnforced) {  // 5.1.3.1
  start({.queues = 2});
  const std::uint64_t offered = guest_->offered();
  for (const FeatureDependency& rule : net_dependencies()) {
    if ((offered & rule.feature) == 0) continue;  // not of this host's tap
    EXPECT_FALSE(guest_->negotiate(kFeatureVersion1 | rule.feature)) << std::hex << rule.feature;
    // With all that it needs, and what that needs.
    EXPECT_TRUE(guest_->negotiate(kFeatureVersion1 | rule.feature | rule.needs | kCsum | kGuestCsum))
        << std::hex << rule.feature;
  }
  EXPECT_TRUE(guest_->negotiate());
  EXPECT_TRUE(guest_->negotiate(kFeatureVersion1));
}

TEST_F(NetFeaturesTest, WhatIsOfferedKeepsToTheRulesWhateverTheOptions) {
  vhost_.offered &= ~kMrgRxbuf;
  for (const bool offload : {true, false}) {
    for (const std::uint32_t queues : {1U, 2U}) {
      for (const auto vhost : {NetConfig::Vhost::off, NetConfig::Vhost::on}) {
        guest_.reset();
        start({.queues = queues, .offload = offload, .vhost = vhost});
        EXPECT_FALSE(unmet(net_dependencies(), guest_->offered()));
      }
    }
  }
}

TEST_F(NetFeaturesTest, VhostGetsNoPackedRings) {
  start({.vhost = NetConfig::Vhost::on}, {.packed_rings = true});
  EXPECT_EQ(vhost_.opened, 1);
  EXPECT_EQ(guest_->offered() & kFeatureRingPacked, 0U);
  EXPECT_EQ(guest_->offered() & kFeatureEventIdx, kFeatureEventIdx);
  guest_->bring_up();
  EXPECT_TRUE(eventually([&] { return vhost_.running(0) && vhost_.running(1); }));
  EXPECT_EQ(vhost_.features & ~vhost_.offered, 0U) << "VHOST_SET_FEATURES takes nothing else";
}

TEST_F(NetFeaturesTest, OfVhostsOwnFeaturesOnlyWhatItGivesIsOffered) {  // VHOST_GET_FEATURES
  for (const std::uint64_t lacks : {kFeatureEventIdx, kFeatureIndirectDesc, kMrgRxbuf}) {
    guest_.reset();
    vhost_.offered |= kFeatureEventIdx | kFeatureIndirectDesc | kMrgRxbuf;
    vhost_.offered &= ~lacks;
    start({.vhost = NetConfig::Vhost::on});
    EXPECT_EQ(guest_->offered() & lacks, 0U);
    guest_->bring_up();
    EXPECT_TRUE(eventually([&] { return vhost_.running(0); }));
    EXPECT_EQ(vhost_.features & ~vhost_.offered, 0U);
  }
}

TEST_F(NetFeaturesTest, VhostsLogOfWritesIsNeverOfferedNorAskedFor) {  // CVE-2019-14835
  constexpr std::uint64_t kLogAll = 1U << 26;                          // VHOST_F_LOG_ALL
  vhost_.offered |= kLogAll;
  start({.vhost = NetConfig::Vhost::on});
  EXPECT_EQ(guest_->offered() & kLogAll, 0U);
  guest_->bring_up();
  ASSERT_TRUE(eventually([&] { return vhost_.running(0); }));
  EXPECT_EQ(vhost_.features & kLogAll, 0U);
}

TEST_F(NetFeaturesTest, WhereVhostIsAbsentTheRingsAreOursAndMayBePacked) {
  vhost_.absent = true;
  start({.vhost = NetConfig::Vhost::on}, {.packed_rings = true});
  EXPECT_NE(guest_->offered() & kFeatureRingPacked, 0U);
}

}  // namespace
}  // namespace balloon::vmm::test
