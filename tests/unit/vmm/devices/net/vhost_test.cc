// SPDX-License-Identifier: Apache-2.0
// vhost-net, against a fake that keeps to its published contract and moves real frames.
#include <gmock/gmock.h>

#include "tests/unit/vmm/devices/net/fake_vhost.h"
#include "tests/unit/vmm/devices/net/net_fixture.h"
#include "tests/unit/vmm/manual_clock.h"

namespace balloon::vmm::test {
namespace {

using namespace net_feature;  // NOLINT: what the tests negotiate
using ::testing::HasSubstr;

class VhostTest : public NetTest {
 protected:
  ~VhostTest() override {
    driver_.reset();
    net_.reset();
  }
  static NetConfig with(NetConfig::Vhost vhost) {
    auto config = NetTest::config();
    config.vhost = vhost;
    return config;
  }
  Result<std::unique_ptr<Net>> create(const NetConfig& config) {
    return create_net(config, memory_, *loop_, vhost_);
  }
  void start_vhost(NetConfig::Vhost vhost = NetConfig::Vhost::on, std::uint64_t features = ~0ULL) {
    auto net = create(with(vhost));
    if (!net) throw std::runtime_error(net.error().message);
    net_ = std::move(*net);
    driver_.emplace(*net_, memory_);
    driver_->start(features);
  }
  /// A frame each way.
  void expect_traffic(std::size_t size) {
    const GuestAddress buffer = post_buffer(2000);
    tap_.send(frame(size));
    const auto used = wait_received();
    ASSERT_TRUE(used);
    EXPECT_EQ(used->length, size + 12);
    EXPECT_EQ(bytes_at(buffer + 12, size), frame(size));
    send(no_offload_, frame(size, 3));
    EXPECT_EQ(tap_.receive(), frame(size, 3));
  }

  FakeVhost vhost_{memory_};
};

TEST_F(VhostTest, TheKernelMovesTheFramesAndRaisesTheInterrupts) {
  start_vhost(NetConfig::Vhost::on, ~kFeatureEventIdx);
  EXPECT_TRUE(net_->state().vhost);
  expect_traffic(100);
  expect_traffic(200);
  EXPECT_EQ(vhost_.frames, 4U);
  EXPECT_EQ(net_->counters().received + net_->counters().sent, 0U) << "not this process";
  EXPECT_TRUE(eventually([&] { return driver_->host().queue_interrupts(kReceive) == 2; }));
  EXPECT_TRUE(eventually([&] { return driver_->host().queue_interrupts(kSend) == 2; }));
}

TEST_F(VhostTest, ItKnowsTheGuestsMemoryAndWhatWasNegotiatedOfItsOwn) {
  start_vhost();
  ASSERT_EQ(vhost_.table.size(), memory_.regions().size());
  EXPECT_EQ(vhost_.table[0].guest_phys_addr, 0U);
  EXPECT_EQ(vhost_.table[0].memory_size, memory_.size().count());
  EXPECT_EQ(vhost_.table[0].userspace_addr,
            reinterpret_cast<std::uintptr_t>(memory_.regions()[0].host.data()));
  EXPECT_EQ(vhost_.features, kFeatureVersion1 | kFeatureIndirectDesc | kFeatureEventIdx | kMrgRxbuf);
}

TEST_F(VhostTest, ItKnowsEachRegionOfTheGuestsMemory) {
  const GuestMemory large = make_memory(4 * kGiB);
  ASSERT_EQ(large.regions().size(), 2U);
  FakeVhost kernel(large);
  const auto vhost = Vhost::create(kernel, -1, large);
  ASSERT_TRUE(vhost);
  ASSERT_TRUE((*vhost)->start(kFeatureVersion1, {}, -1, true));
  ASSERT_EQ(kernel.table.size(), 2U);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(kernel.table[i].guest_phys_addr, large.regions()[i].start);
    EXPECT_EQ(kernel.table[i].memory_size, large.regions()[i].host.size());
    EXPECT_EQ(kernel.table[i].userspace_addr,
              reinterpret_cast<std::uintptr_t>(large.regions()[i].host.data()));
  }
}

TEST_F(VhostTest, WhatVhostDoesNotKnowIsNotOffered) {
  vhost_.offered &= ~(kMrgRxbuf | kFeatureEventIdx);
  start_vhost();
  EXPECT_EQ(net_->offered_features() & (kMrgRxbuf | kFeatureEventIdx), 0U);
  EXPECT_NE(net_->offered_features() & kHostTso4, 0U) << "that is between guest and tap";
  EXPECT_FALSE(net_->takes_packed_rings());
  expect_traffic(100);
}

TEST_F(VhostTest, AResetTakesTheRingsBackAndTheNextDriverGetsThemServedAgain) {
  start_vhost();
  for (int round = 0; round < 3; ++round) {
    expect_traffic(100);
    driver_->reset();
    EXPECT_FALSE(vhost_.running(0) || vhost_.running(1)) << "nothing may reach the old rings";
    EXPECT_FALSE(net_->state().vhost);
    driver_->start();
  }
  expect_traffic(300);
}

TEST_F(VhostTest, AQueueThatTheDriverTakesBackStopsItAndTheOtherIsServedHereMeanwhile) {  // RING_RESET
  start_vhost();
  for (const std::uint16_t taken : {kReceive, kSend}) {
    expect_traffic(100);
    driver_->reset_queue(taken);
    EXPECT_FALSE(vhost_.running(0) || vhost_.running(1)) << "nothing may reach the old ring";
    EXPECT_FALSE(net_->state().vhost);
    if (taken == kReceive) {
      send(no_offload_, frame(80, 5));
      EXPECT_EQ(tap_.receive(), frame(80, 5));
    } else {
      const GuestAddress buffer = post_buffer(2000);
      tap_.send(frame(90));
      ASSERT_TRUE(wait_received());
      EXPECT_EQ(bytes_at(buffer + 12, 90), frame(90));
    }
    driver_->restart_queue(taken);
    EXPECT_TRUE(net_->state().vhost);
  }
  for (int i = 0; i < 300; ++i) expect_traffic(100);  // more than the queue has places
}

TEST_F(VhostTest, PausedItStandsStillAndThenGoesOnWhereItWas) {
  start_vhost();
  expect_traffic(100);
  net_->pause();
  const GuestAddress buffer = post_buffer(2000);
  tap_.send(frame(150));
  catch_up(*loop_);
  EXPECT_FALSE(vhost_.running(0) || vhost_.running(1));
  EXPECT_EQ(queue(kReceive).used_index(), 1);
  net_->resume();
  ASSERT_TRUE(wait_received());
  EXPECT_EQ(bytes_at(buffer + 12, 150), frame(150));
  expect_traffic(200);
}

TEST_F(VhostTest, PausedItsQueuesStandWhereItCame) {
  start_vhost();
  driver_->reset_queue(kSend);
  auto queue = std::make_unique<VirtQueue>(*VirtQueue::create(memory_, driver_->queue(kSend).layout()));
  const VirtQueue& saved = *queue;
  {
    const std::lock_guard lock(net_->mutex());
    net_->start_queue(kSend, std::move(queue));
  }
  expect_traffic(100);
  expect_traffic(100);
  net_->pause();
  EXPECT_EQ(saved.position(), (QueuePosition{.next_available = 2, .next_used = 2}));
  net_->resume();
}

TEST_F(VhostTest, WhatItCannotGoOnWithAsksForAReset) {
  start_vhost();
  net_->pause();
  vhost_.refuse = VHOST_NET_SET_BACKEND;
  net_->resume();
  EXPECT_THAT(driver_->host().reset_reason(), HasSubstr("giving it the tap"));
  vhost_.refuse = 0;
  driver_->reset();
  driver_.emplace(*net_, memory_);
  driver_->start();
  expect_traffic(100);
}

/// Lends an event for the interrupt of each queue, as a transport with MSI-X does.
class LendingHost final : public RecordingHost {
 public:
  int interrupt_event(std::uint16_t queue) override { return events.at(queue).get(); }
  std::array<UniqueFd, 2> events{UniqueFd(::eventfd(0, EFD_CLOEXEC)), UniqueFd(::eventfd(0, EFD_CLOEXEC))};
};

TEST_F(VhostTest, ItSignalsTheEventsThatTheTransportLendsAndHearsWhenThoseChange) {
  start_vhost();
  const int own = vhost_.call(kSend);
  LendingHost lending;
  const auto change_to = [this](DeviceHost& host) {
    const std::lock_guard lock(net_->mutex());
    net_->attach(host);
    net_->interrupts_changed();
  };
  change_to(lending);
  EXPECT_EQ(vhost_.call(kReceive), lending.events[kReceive].get());
  EXPECT_EQ(vhost_.call(kSend), lending.events[kSend].get());
  net_->pause();
  change_to(driver_->host());
  EXPECT_EQ(vhost_.call(kSend), lending.events[kSend].get()) << "it hears of it when it goes on";
  net_->resume();
  EXPECT_EQ(vhost_.call(kSend), own);
  expect_traffic(100);
}

TEST_F(VhostTest, ForATapWithoutAHeaderItMakesTheHeadersItself) {
  constexpr std::uint64_t kMakesHeader = 1ULL << VHOST_NET_F_VIRTIO_NET_HDR;
  auto config = with(NetConfig::Vhost::on);
  config.vnet_header = false;
  for (const bool can : {true, false}) {
    if (!can) vhost_.offered &= ~kMakesHeader;
    net_ = std::move(*create(config));
    driver_.emplace(*net_, memory_);
    driver_->start();
    EXPECT_EQ((vhost_.features & kMakesHeader) != 0, can);
    EXPECT_EQ(driver_->host().reset_reason().contains("needs a tap with vnet_hdr"), !can);
    driver_.reset();
    net_.reset();
    vhost_.features = 0;
  }
}

TEST_F(VhostTest, AChangeOfTheMemoryMapIsToldWithoutLosingItsPlace) {
  start_vhost();
  expect_traffic(100);
  vhost_.table.clear();
  const int starts = vhost_.starts;
  {
    const std::lock_guard lock(net_->mutex());
    ASSERT_TRUE(net_->memory_changed());
  }
  EXPECT_EQ(vhost_.table.size(), memory_.regions().size());
  EXPECT_EQ(vhost_.starts, starts + 2) << "both rings were stopped meanwhile";
  expect_traffic(200);
}

TEST_F(VhostTest, ThePulledCableStopsItAndItComesBack) {
  start_vhost();
  expect_traffic(100);
  net_->set_link(false);
  EXPECT_EQ(driver_->read_config<std::uint16_t>(6), 0U);
  EXPECT_FALSE(vhost_.running(0));
  net_->set_link(true);
  expect_traffic(200);
}

TEST_F(VhostTest, WithTheCablePulledFromTheStartItBeginsWhenItIsPluggedIn) {
  auto config = with(NetConfig::Vhost::on);
  config.link = false;
  auto net = create(config);
  ASSERT_TRUE(net);
  net_ = std::move(*net);
  driver_.emplace(*net_, memory_);
  driver_->start();
  EXPECT_FALSE(net_->state().vhost);
  send(no_offload_, frame(60));  // dropped here
  net_->set_link(true);
  EXPECT_TRUE(net_->state().vhost);
  expect_traffic(200);
}

TEST_F(VhostTest, ARingThatVhostCannotMakeSenseOfAsksForAReset) {
  start_vhost();
  vhost_.report_error(1);
  EXPECT_TRUE(eventually([&] { return !driver_->host().reset_reason().empty(); }));
  EXPECT_FALSE(vhost_.running(0) || vhost_.running(1));
}

TEST_F(VhostTest, WithoutTheDeviceOnFallsBackAndForceRefuses) {
  vhost_.absent = true;
  start_vhost();
  EXPECT_FALSE(net_->state().vhost);
  expect_traffic(100);
  driver_.reset();
  net_.reset();
  const auto net = create(with(NetConfig::Vhost::force));
  ASSERT_FALSE(net);
  EXPECT_THAT(net.error().message, HasSubstr("is the vhost_net module loaded"));
}

TEST_F(VhostTest, OffDoesNotTouchIt) {
  start_vhost(NetConfig::Vhost::off);
  EXPECT_EQ(vhost_.opened, 0);
  expect_traffic(100);
}

TEST_F(VhostTest, TheRateLimitIsOurs) {
  auto config = with(NetConfig::Vhost::on);
  config.rate.frames = 1000;
  auto net = create(config);
  ASSERT_TRUE(net);
  EXPECT_EQ(vhost_.opened, 0);
  net->reset();
  config.vhost = NetConfig::Vhost::force;
  const auto refused = create(config);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("vhost cannot limit the rate"));
}

TEST_F(VhostTest, APassedDescriptorIsUsedAndGivenBack) {
  const UniqueFd passed(::eventfd(0, EFD_CLOEXEC));
  auto config = with(NetConfig::Vhost::off);
  config.vhost_fds = {static_cast<std::uint32_t>(passed.get())};
  for (int life = 0; life < 2; ++life) {
    driver_.reset();
    net_.reset();
    EXPECT_FALSE(vhost_.owned);
    auto net = create(config);
    ASSERT_TRUE(net) << net.error().message;
    net_ = std::move(*net);
    driver_.emplace(*net_, memory_);
    driver_->start();
    EXPECT_TRUE(net_->state().vhost);
    expect_traffic(100);
  }
  EXPECT_EQ(vhost_.opened, 0);
}

TEST_F(VhostTest, EveryStepThatFailsIsAnErrorAndNothingKeepsRunning) {
  for (const unsigned long step : std::initializer_list<unsigned long>{VHOST_SET_OWNER, VHOST_GET_FEATURES}) {
    vhost_.refuse = step;
    EXPECT_FALSE(create(with(NetConfig::Vhost::force)));
    vhost_.owned = false;
  }
  for (const unsigned long step : std::initializer_list<unsigned long>{
           VHOST_SET_FEATURES, VHOST_SET_MEM_TABLE, VHOST_SET_VRING_NUM, VHOST_SET_VRING_BASE,
           VHOST_SET_VRING_ADDR, VHOST_SET_VRING_KICK, VHOST_SET_VRING_CALL, VHOST_SET_VRING_ERR,
           VHOST_NET_SET_BACKEND}) {
    vhost_.refuse = step;
    start_vhost();
    EXPECT_THAT(driver_->host().reset_reason(), HasSubstr("vhost: "));
    EXPECT_FALSE(vhost_.running(0) || vhost_.running(1));
    vhost_.refuse = 0;
    driver_.reset();
    net_.reset();
  }
}

}  // namespace
}  // namespace balloon::vmm::test
