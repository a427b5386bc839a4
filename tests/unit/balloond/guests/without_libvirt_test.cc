// SPDX-License-Identifier: Apache-2.0
// balloond as it is built without libvirt's headers (cmake -D BALLOON_LIBVIRT=OFF).
#include <gtest/gtest.h>

#include "balloond/guests/libvirt/backend.h"
#include "balloond/guests/registry.h"
#include "tests/unit/balloond/fakes.h"

namespace balloon::daemon {
namespace {

TEST(WithoutLibvirt, ALibvirtThatIsConfiguredIsRefusedWithTheReason) {
  const test::FakeClock clock;
  Registry guests(clock);
  libvirt::Backend backend(clock, guests);
  EXPECT_TRUE(backend.manage({}, std::chrono::seconds(1))) << "who configures none needs none";
  const auto managed = backend.manage({LibvirtHost{.uri = "qemu:///system"}}, std::chrono::seconds(1));
  ASSERT_FALSE(managed);
  EXPECT_EQ(managed.error().message,
            "backends.libvirt is configured, and this balloond was built without libvirt "
            "(BALLOON_LIBVIRT=OFF)");
}

}  // namespace
}  // namespace balloon::daemon
