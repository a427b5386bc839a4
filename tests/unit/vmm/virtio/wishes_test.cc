// SPDX-License-Identifier: Apache-2.0
// What is wanted of a device is carried out in order, and whoever wants it waits for nobody.
#include "vmm/virtio/wishes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <thread>
#include <vector>

#include "tests/unit/vmm/virtio/fake_driver.h"

namespace balloon::vmm::test {
namespace {

using testing::ElementsAre;

class WishesTest : public testing::Test {
 protected:
  FairMutex device;
  std::unique_ptr<EventLoop> loop = *EventLoop::create("test");
  std::unique_ptr<Wishes> wishes = *Wishes::create(device, *loop);
  std::vector<int> done;  // with the device's mutex
};

TEST_F(WishesTest, OneOfADeviceThatNobodyHasIsCarriedOutAtOnce) {
  wishes->post([&] { done.push_back(1); });
  EXPECT_THAT(done, ElementsAre(1));
}

TEST_F(WishesTest, OneOfADeviceThatIsBusyIsPostedAndCarriedOutLater) {
  device.lock();
  std::thread other([&] {
    for (int i = 1; i <= 3; ++i) wishes->post([this, i] { done.push_back(i); });
  });
  other.join();  // though the device is busy
  EXPECT_TRUE(done.empty());
  device.unlock();
  EXPECT_TRUE(eventually([&] {
    const std::lock_guard lock(device);
    return done.size() == 3;
  }));
  EXPECT_THAT(done, ElementsAre(1, 2, 3));
}

TEST_F(WishesTest, TryingForAMutexThatIsTakenFails) {
  EXPECT_TRUE(device.try_lock());
  EXPECT_FALSE(device.try_lock());
  device.unlock();
  EXPECT_TRUE(device.try_lock());
  device.unlock();
}

}  // namespace
}  // namespace balloon::vmm::test
