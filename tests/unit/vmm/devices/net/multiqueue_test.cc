// SPDX-License-Identifier: Apache-2.0
// Several queue pairs on a tap made for them.
#include <gmock/gmock.h>

#include "tests/unit/vmm/devices/net/net_fixture.h"

namespace balloon::vmm::test {
namespace {

using namespace net_feature;  // NOLINT: what the tests negotiate
using ::testing::HasSubstr;

constexpr const char* kMany = "tap-many";
constexpr std::uint16_t kSecondReceive = 2;
constexpr std::uint16_t kSecondSend = 3;
constexpr std::uint16_t kControl = 4;

class MultiqueueTest : public NetTest {
 protected:
  ~MultiqueueTest() override {
    driver_.reset();
    net_.reset();
  }
  static NetConfig two() {
    return {.tap = kMany, .mac = MacAddress{2, 0, 0, 0, 0, 7}, .fds = {}, .queues = 2};
  }
  std::uint8_t set_pairs(std::uint8_t pairs) {
    ChainBuilder builder(queue(kControl));
    builder.readable_values<std::uint8_t>({4, 0, pairs, 0}).writable(1);
    builder.submit();
    driver_->kick_and_wait(kControl);
    return static_cast<std::uint8_t>(bytes_at(builder.address(1), 1)[0]);
  }
  void post(std::uint16_t index, int count) {
    for (int i = 0; i < count; ++i) ChainBuilder(queue(index)).writable(1600).submit();
    driver_->kick(index);
  }
  int received(std::uint16_t index) {
    int count = 0;
    while (queue(index).pop_used()) ++count;
    return count;
  }
  void send_on(std::uint16_t index, const std::vector<std::byte>& data) {
    auto all = no_offload_;
    all.insert(all.end(), data.begin(), data.end());
    ChainBuilder(queue(index)).readable(all).submit();
    driver_->kick(index);
  }

  HostTap many_{kMany, IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE};
};

TEST_F(MultiqueueTest, ThePairsAreOfferedAndOneIsInUseAtFirst) {
  start(~0ULL, two());
  EXPECT_NE(net_->offered_features() & kMq, 0U);
  EXPECT_EQ(driver_->read_config<std::uint16_t>(8), 2U);
  EXPECT_EQ(net_->queue_sizes().size(), 5U);
  EXPECT_EQ(net_->state().pairs, 1U);
  post(kReceive, 40);
  post(kSecondReceive, 40);
  for (int i = 0; i < 30; ++i) many_.send(frame(100, i));
  int first = 0;
  EXPECT_TRUE(eventually([&] { return (first += received(kReceive)) == 30; }));
  EXPECT_EQ(received(kSecondReceive), 0);
}

TEST_F(MultiqueueTest, BothPairsMoveFramesOnceTheGuestSwitchesThemOn) {
  start(~0ULL, two());
  EXPECT_EQ(set_pairs(2), kControlOk);
  EXPECT_EQ(net_->state().pairs, 2U);
  post(kReceive, 60);
  post(kSecondReceive, 60);
  send_on(kSend, frame(70));
  EXPECT_EQ(many_.receive(), frame(70));
  send_on(kSecondSend, frame(71));
  EXPECT_EQ(many_.receive(), frame(71));
  int all = 0;
  for (int i = 0; i < 50; ++i) many_.send(frame(100, i));
  EXPECT_TRUE(eventually([&] { return (all += received(kReceive) + received(kSecondReceive)) == 50; }))
      << all;
}

TEST_F(MultiqueueTest, APairThatIsSwitchedOffGetsNothingAndDoesNotSpin) {
  start(~0ULL, two());
  EXPECT_EQ(set_pairs(2), kControlOk);
  EXPECT_EQ(set_pairs(1), kControlOk);
  post(kReceive, 40);
  post(kSecondReceive, 40);
  for (int i = 0; i < 30; ++i) many_.send(frame(100, i));
  int first = 0;
  EXPECT_TRUE(eventually([&] { return (first += received(kReceive)) == 30; })) << first;
  EXPECT_EQ(received(kSecondReceive), 0);
  const double before = cpu_seconds();
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_LT(cpu_seconds() - before, 0.1) << "the loop spins on a detached queue";
}

TEST_F(MultiqueueTest, NumbersOfPairsThatCannotBeAreRefused) {
  start(~0ULL, two());
  EXPECT_EQ(set_pairs(0), kControlError);
  EXPECT_EQ(set_pairs(3), kControlError);
  EXPECT_EQ(net_->state().pairs, 1U);
}

TEST_F(MultiqueueTest, AResetLeavesOnePair) {
  start(~0ULL, two());
  EXPECT_EQ(set_pairs(2), kControlOk);
  driver_->reset();
  EXPECT_EQ(net_->state().pairs, 0U);
  driver_->start();
  EXPECT_EQ(net_->state().pairs, 1U);
  EXPECT_EQ(set_pairs(2), kControlOk);
}

TEST_F(MultiqueueTest, ADriverThatKnowsOnePairHasItsControlQueueBehindIt) {
  start(~kMq, two());
  ChainBuilder builder(queue(2));
  builder.readable_values<std::uint8_t>({0, 0, 1}).writable(1);
  builder.submit();
  ASSERT_TRUE(driver_->kick_and_wait(2));
  EXPECT_EQ(static_cast<std::uint8_t>(bytes_at(builder.address(1), 1)[0]), kControlOk);
  driver_->reset_queue(kControl);  // of no pair, and not its control queue
  driver_->restart_queue(kControl);
  send_on(kSend, frame(70));
  EXPECT_EQ(many_.receive(), frame(70));
}

TEST_F(MultiqueueTest, OnePairOfSuchATapWorksToo) {
  start(~0ULL, {.tap = kMany});
  EXPECT_EQ(net_->offered_features() & kMq, 0U);
  post(kReceive, 2);
  many_.send(frame(80));
  EXPECT_TRUE(eventually([&] { return received(kReceive) == 1; }));
}

TEST_F(MultiqueueTest, PassedDescriptorsAreQueuesOfOneTapWithTheSameFlags) {
  const auto open_queue = [](int flags) {
    UniqueFd queue(::open("/dev/net/tun", O_RDWR | O_CLOEXEC));
    ifreq request = named(kMany);
    request.ifr_flags = static_cast<short>(IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE | flags);
    EXPECT_EQ(::ioctl(queue.get(), TUNSETIFF, &request), 0);
    return queue;
  };
  const UniqueFd one = open_queue(IFF_VNET_HDR);
  const UniqueFd two = open_queue(IFF_VNET_HDR);
  const std::array both = {one.get(), two.get()};
  EXPECT_TRUE(Tap::adopt(both));
  UniqueFd other(::open("/dev/net/tun", O_RDWR | O_CLOEXEC));
  ifreq request = named(kTap);
  request.ifr_flags = static_cast<short>(IFF_TAP | IFF_NO_PI);
  ASSERT_EQ(::ioctl(other.get(), TUNSETIFF, &request), 0);
  const std::array mixed = {one.get(), other.get()};
  const auto refused = Tap::adopt(mixed);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("it belongs to tap-test, the one before to tap-many"));
}

TEST_F(MultiqueueTest, ATapForOneQueueCannotHaveTwo) {
  auto with = two();
  with.tap = kTap;
  const auto net = create_net(with, memory_, *loop_, kernel_);
  ASSERT_FALSE(net);
  EXPECT_THAT(net.error().message, HasSubstr("ip tuntap add dev tap-test mode tap multi_queue"));
}

}  // namespace
}  // namespace balloon::vmm::test
