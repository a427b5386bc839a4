// SPDX-License-Identifier: Apache-2.0
// How a device's queues are served: in turns, one queue after the other, from the loop and by kicks.
#include "vmm/virtio/device_queues.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include "tests/unit/vmm/manual_clock.h"
#include "tests/unit/vmm/virtio/fake_driver.h"

namespace balloon::vmm::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

/// Two queues; what becomes of a chain the test says.
class TwoQueues final : public VirtioDevice {
 public:
  explicit TwoQueues(EventLoop& loop) : queues(std::move(*DeviceQueues::create(*this, loop))) {}

  DeviceId id() const override { return DeviceId::entropy; }
  std::string_view name() const override { return "two queues"; }
  std::uint64_t offered_features() const override { return kFeatureIndirectDesc | kFeatureEventIdx; }
  std::span<const std::uint16_t> queue_sizes() const override { return sizes_; }
  std::uint32_t config_size() const override { return 0; }
  void read_config(std::uint32_t, std::span<std::byte>) override {}
  void write_config(std::uint32_t, std::span<const std::byte>) override {}
  void activate(std::uint64_t, std::vector<std::unique_ptr<VirtQueue>> given) override {
    queues->start(host(), std::move(given));
  }
  void process_queue(std::uint16_t index) override {
    turns.push_back(index);
    queues->serve(index, [this](VirtQueue& queue, Work& work, TurnBudget&) {
      const Progress progress = what(work);
      if (progress == Progress::done) queue.put(std::move(work.chain), 0);
      return progress;
    });
  }
  void reset() override { queues->stop(); }
  void reset_queue(std::uint16_t index) override { queues->remove(index); }
  void start_queue(std::uint16_t index, std::unique_ptr<VirtQueue> queue) override {
    queues->add(index, std::move(queue));
  }

  std::function<Progress(Work&)> what = [](Work&) { return Progress::done; };
  std::vector<int> turns;
  std::unique_ptr<DeviceQueues> queues;

 private:
  std::array<std::uint16_t, 2> sizes_{128, 128};
};

class DeviceQueuesTest : public testing::Test {
 protected:
  ~DeviceQueuesTest() override { driver.reset(); }
  /// The first look at each queue is over when it returns.
  void start() {
    driver->start();
    catch_up(*loop);
    catch_up(*loop);
    device.turns.clear();
  }
  void submit(std::uint16_t index, int count) {
    for (int i = 0; i < count; ++i) ChainBuilder(driver->queue(index)).writable(8).submit();
  }
  int used(std::uint16_t index) { return driver->queue(index).used_index(); }
  std::vector<int> turns() {
    const std::lock_guard lock(device.mutex());
    return device.turns;
  }

  GuestMemory memory = make_memory();
  std::unique_ptr<EventLoop> loop = std::move(*EventLoop::create("test-loop"));
  TwoQueues device{*loop};
  std::unique_ptr<FakeDriver> driver = std::make_unique<FakeDriver>(device, memory);
};

TEST_F(DeviceQueuesTest, EachIsLookedAtOnceFromTheLoopWhenTheDriverIsReady) {
  driver->start();
  EXPECT_TRUE(eventually([&] { return turns().size() == 2; }));
  EXPECT_THAT(turns(), ElementsAre(0, 1));
}

TEST_F(DeviceQueuesTest, ATurnTakes32ChainsAndWhatIsLeftHasItsTurnsFromTheLoop) {
  start();
  loop->pause();
  submit(0, 80);
  driver->kick(0);
  EXPECT_EQ(used(0), 32);
  EXPECT_EQ(driver->host().queue_interrupts(0), 1) << "for all of them";
  loop->resume();
  EXPECT_TRUE(eventually([&] { return used(0) == 80; }));
  EXPECT_THAT(turns(), ElementsAre(0, 0, 0));
}

TEST_F(DeviceQueuesTest, TwoThatAreBusyHaveTheirTurnsOneAfterTheOther) {
  start();
  loop->pause();
  for (std::uint16_t index = 0; index < 2; ++index) {
    submit(index, 80);
    driver->kick(index);
  }
  loop->resume();
  EXPECT_TRUE(eventually([&] { return used(0) == 80 && used(1) == 80; }));
  EXPECT_THAT(turns(), ElementsAre(0, 1, 0, 1, 0, 1));
}

TEST_F(DeviceQueuesTest, AChainThatTakesSeveralTurnsGoesOnWhereItWas) {
  start();
  device.what = [](Work& work) { return ++work.done < 3 ? Progress::more : Progress::done; };
  submit(0, 1);
  driver->kick(0);
  EXPECT_TRUE(eventually([&] { return used(0) == 1; }));
  EXPECT_THAT(turns(), ElementsAre(0, 0, 0));
}

TEST_F(DeviceQueuesTest, AChainThatWaitsIsLookedAtAgainWhenItsDeviceSaysSo) {
  start();
  Progress progress = Progress::waits;
  device.what = [&](Work&) { return progress; };
  submit(0, 2);
  driver->kick(0);
  catch_up(*loop);
  EXPECT_THAT(turns(), ElementsAre(0));
  EXPECT_EQ(used(0), 0);
  {
    const std::lock_guard lock(device.mutex());
    progress = Progress::done;
    device.queues->come_back(0);
  }
  EXPECT_TRUE(eventually([&] { return used(0) == 2; }));
  EXPECT_THAT(turns(), ElementsAre(0, 0));
}

TEST_F(DeviceQueuesTest, OneThatIsTakenBackForgetsTheChainUnderWayAndIsNotLookedAt) {
  start();
  device.what = [](Work&) { return Progress::waits; };
  submit(0, 1);
  driver->kick(0);
  loop->pause();
  {
    const std::lock_guard lock(device.mutex());
    device.queues->come_back(0);
  }
  driver->reset_queue(0);
  EXPECT_EQ(device.queues->at(0), nullptr);
  EXPECT_NE(device.queues->at(1), nullptr);
  device.turns.clear();
  loop->resume();
  catch_up(*loop);
  EXPECT_THAT(turns(), IsEmpty());
  EXPECT_EQ(used(0), 0);
  device.what = [](Work&) { return Progress::done; };
  driver->restart_queue(0);
  submit(0, 1);
  EXPECT_TRUE(eventually([&] { return driver->kick(0), used(0) == 1; }));
}

TEST_F(DeviceQueuesTest, ABrokenOneStopsAllUntilTheReset) {
  start();
  driver->queue(0).set_available_index(30'000);
  driver->kick(0);
  EXPECT_THAT(driver->host().reset_reason(), HasSubstr("queue 0: available index"));
  submit(1, 1);
  driver->kick(1);
  catch_up(*loop);
  EXPECT_EQ(used(1), 0);
  driver->reset();
  start();
  submit(1, 1);
  driver->kick(1);
  EXPECT_EQ(used(1), 1);
}

TEST_F(DeviceQueuesTest, ThoseThatAreNotThereAreLeftAlone) {
  DeviceQueues& queues = *device.queues;
  const auto touch = [&](std::uint16_t index) {
    const std::lock_guard lock(device.mutex());
    EXPECT_EQ(queues.at(index), nullptr);
    queues.remove(index);
    queues.add(index, nullptr);
    queues.come_back(index);
    queues.notify(index);
    device.process_queue(index);
    EXPECT_EQ(queues.at(index), nullptr);
  };
  touch(0);
  start();
  touch(2);
  touch(77);
  driver->reset();
  touch(0);
  start();
  submit(0, 1);
  driver->kick(0);
  EXPECT_EQ(used(0), 1);
}

}  // namespace
}  // namespace balloon::vmm::test
