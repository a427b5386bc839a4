// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/libvirt/caller.h"

#include <gtest/gtest.h>

#include <future>

namespace balloon::daemon::libvirt {
namespace {

TEST(Caller, CallsAreMadeInAThreadOfItsOwnAndInOrder) {
  Caller caller;
  std::promise<std::thread::id> first;
  std::promise<int> second;
  caller.call([&] { first.set_value(std::this_thread::get_id()); });
  EXPECT_NE(first.get_future().get(), std::this_thread::get_id());
  caller.call([&] { second.set_value(2); });
  EXPECT_EQ(second.get_future().get(), 2);
}

TEST(Caller, ACallThatDoesNotReturnIsGivenUpAndItsThreadEndsWithIt) {
  auto gate = std::make_shared<std::promise<void>>();
  std::promise<void> began;
  std::weak_ptr<void> trace;
  {
    Caller caller;
    caller.call([gate, &began] {
      began.set_value();
      gate->get_future().wait();
    });
    began.get_future().wait();
    EXPECT_TRUE(caller.busy());
    trace = caller.trace();
  }  // returns though the call does not
  EXPECT_FALSE(trace.expired());
  gate->set_value();
  for (int i = 0; i < 1000 && !trace.expired(); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_TRUE(trace.expired());
}

TEST(Caller, ACallThatIsAboutToBeginIsMadeThoughNobodyWaitsForIt) {
  std::promise<void> made;
  auto future = made.get_future();
  {
    Caller caller;
    caller.call([made = std::make_shared<std::promise<void>>(std::move(made))] { made->set_value(); });
  }
  EXPECT_EQ(future.wait_for(std::chrono::seconds(30)), std::future_status::ready);
}

}  // namespace
}  // namespace balloon::daemon::libvirt
