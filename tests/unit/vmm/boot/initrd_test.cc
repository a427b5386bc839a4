// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/initrd.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace balloon::vmm {
namespace {

TEST(PlaceInitrdTest, EndsAsHighAsAWholePageAllows) {
  EXPECT_EQ(*place_initrd(1, 0x100000, 0x200000), 0x1ff000u);
  EXPECT_EQ(*place_initrd(kPageSize, 0x100000, 0x200000), 0x1ff000u);
  EXPECT_EQ(*place_initrd(kPageSize + 1, 0x100000, 0x200000), 0x1fe000u);
  EXPECT_EQ(*place_initrd(kPageSize, 0x100000, 0x200fff), 0x1ff000u);
}

TEST(PlaceInitrdTest, MayTouchTheFloorButNotCrossIt) {
  EXPECT_EQ(*place_initrd(0x100000, 0x100000, 0x200000), 0x100000u);
  EXPECT_FALSE(place_initrd(0x100001, 0x100000, 0x200000));
  EXPECT_FALSE(place_initrd(0x100000, 0x100001, 0x200000));
  EXPECT_FALSE(place_initrd(0xfffff, 0x100001, 0x200000)) << "page alignment would push it below the floor";
}

TEST(PlaceInitrdTest, NoRoomIsAnErrorThatSaysHowMuchThereIs) {
  auto none = place_initrd(1, 0x200000, 0x100000);
  ASSERT_FALSE(none);
  EXPECT_THAT(none.error().message, ::testing::HasSubstr("0 bytes are left"));
  EXPECT_FALSE(place_initrd(~0ULL, 0x100000, 0x200000));
}

}  // namespace
}  // namespace balloon::vmm
