// SPDX-License-Identifier: Apache-2.0
// A network device saved, and loaded into a fresh one at the same tap.
#include <gmock/gmock.h>

#include "tests/unit/vmm/devices/net/net_fixture.h"
#include "vmm/snapshot/state_stream.h"

namespace balloon::vmm {
namespace {

class NetSnapshotTest : public test::NetTest {
 protected:
  /// The device goes, and one made with `with` goes on from its state, under a driver that was at work.
  Result<void> move(const NetConfig& with) {
    StateWriter writer;
    {
      const std::lock_guard lock(net_->mutex());
      net_->save(writer);
    }
    driver_.reset();
    net_.reset();
    start(kPlain, with);
    StateReader reader(writer.bytes());
    const std::lock_guard lock(net_->mutex());
    BALLOON_TRY(net_->load(reader));
    return reader.at_end() ? Result<void>{} : fail("something is left");
  }
  bool guest_sees_link() { return (driver_->read_config<std::uint16_t>(6) & 1) != 0; }
};

TEST_F(NetSnapshotTest, ACablePulledBeforeIsPulledAfterwardsOnBothSides) {
  start();
  net_->set_link(false);
  const auto moved = move(config());
  ASSERT_TRUE(moved) << moved.error().message;
  EXPECT_FALSE(guest_sees_link());
  EXPECT_FALSE(net_->state().link);
  EXPECT_FALSE(tap_.has_carrier());
  net_->set_link(true);
  EXPECT_TRUE(guest_sees_link());
  EXPECT_TRUE(tap_.has_carrier());
  post_buffer();
  tap_.send(test::frame(70));
  EXPECT_TRUE(wait_received());
}

TEST_F(NetSnapshotTest, ACablePluggedInBeforeIsPluggedInThoughTheOptionsSayDown) {
  start();
  auto down = config();
  down.link = false;
  const auto moved = move(down);
  ASSERT_TRUE(moved) << moved.error().message;
  EXPECT_TRUE(guest_sees_link());
  EXPECT_TRUE(tap_.has_carrier());
  post_buffer();
  tap_.send(test::frame(70));
  EXPECT_TRUE(wait_received());
}

TEST_F(NetSnapshotTest, AStateThatIsCutOffIsRefused) {
  start();
  StateWriter writer;
  net_->save(writer);
  const auto& whole = writer.bytes();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const std::vector<std::byte> part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    StateReader reader(part);
    const std::lock_guard lock(net_->mutex());
    EXPECT_FALSE(net_->load(reader)) << size;
  }
}

}  // namespace
}  // namespace balloon::vmm
