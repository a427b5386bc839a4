// SPDX-License-Identifier: Apache-2.0
// A registry of guests whose processes are files of a tree.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "balloond/guests/registry.h"
#include "tests/unit/balloond/fakes.h"

namespace balloon::daemon {

using test::kGiB;
using test::kMiB;

inline constexpr Peer kVmm{.pid = 42, .uid = 1000};

class RegistryTest : public ::testing::Test {
 protected:
  RegistryTest() {
    tree_.process(42, "1024");
    tree_.process(43, "1024");
    guests_.on_change([this](const GuestChange& change) { changes_.push_back(change); });
  }
  Session join(const std::string& name = "a", Peer peer = kVmm) {
    const auto session = guests_.joined(test::registration(name, 2 * kGiB, kGiB), peer, channel_);
    EXPECT_TRUE(session) << session.error().reason;
    return session.value_or(0);
  }
  BalloonState balloon(policy::Bytes actual, policy::Bytes target, bool ready = true) const {
    BalloonState update;
    update.actual = actual;
    update.target = target;
    update.driver_ready = ready;
    return update;
  }

  /// Has the guest asked for a size, and its hypervisor take it and reach it.
  void reach(Session session, policy::Bytes target) {
    ASSERT_TRUE(guests_.set_target("a", session, target));
    guests_.answered(session, Request::Kind::target, channel_->asked.back().sequence, "");
    guests_.balloon(session, balloon(target, target));
  }

  test::FakeTree tree_;
  test::FakeClock clock_;
  Registry guests_{clock_, tree_.root()};
  std::shared_ptr<test::FakeChannel> channel_ = std::make_shared<test::FakeChannel>();
  std::vector<GuestChange> changes_;
};

}  // namespace balloon::daemon
