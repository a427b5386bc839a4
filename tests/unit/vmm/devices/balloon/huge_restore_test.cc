// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/balloon/huge_restore.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/vmm/address_literals.h"

namespace balloon::vmm {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class HugeRestoreTest : public testing::Test {
 protected:
  void give(GuestRange range) {
    restore_.inflated(range);
    restore_.released(range);
  }

  std::vector<GuestAddress> restored_;
  HugeRestore restore_{64_MiB, [this](GuestAddress huge_page) { restored_.push_back(huge_page); }};
};

TEST_F(HugeRestoreTest, OneThatWasReleasedInPartsIsRestoredOnceAllOfItIsBack) {
  give({2_MiB, kPageSize});
  give({3_MiB, 8 * kPageSize});
  restore_.deflated({2_MiB, kPageSize});
  EXPECT_THAT(restored_, IsEmpty()) << "it would bring pages back that the balloon holds";
  restore_.deflated({3_MiB, 8 * kPageSize});
  EXPECT_THAT(restored_, ElementsAre(2_MiB));
}

TEST_F(HugeRestoreTest, OneThatWasReleasedWholeNeedsNothing) {  // it comes back whole
  give({4_MiB, 2 * kHugePageSize});
  restore_.deflated({4_MiB, 2 * kHugePageSize});
  EXPECT_THAT(restored_, IsEmpty());
}

TEST_F(HugeRestoreTest, OneThatWasHeldBackAllTheTimeNeedsNothing) {
  restore_.inflated({0, kPageSize});
  restore_.deflated({0, kPageSize});
  EXPECT_THAT(restored_, IsEmpty());
}

TEST_F(HugeRestoreTest, ItIsRestoredOnceForEachTimeItWasInParts) {
  for (int round = 0; round < 2; ++round) {
    give({0, kPageSize});
    restore_.deflated({0, kPageSize});
    restore_.deflated({0, kPageSize});  // a driver that repeats itself
  }
  EXPECT_THAT(restored_, ElementsAre(0, 0));
}

TEST_F(HugeRestoreTest, PagesBeyondTheGuestsMemoryAreIgnored) {
  give({(1ULL << 44) - kPageSize, kPageSize});
  give({64_MiB, kPageSize});
  restore_.deflated({64_MiB, kPageSize});
  EXPECT_THAT(restored_, IsEmpty());
}

TEST_F(HugeRestoreTest, AResetForgetsWhatTheLastDriverGave) {
  give({0, kPageSize});
  restore_.reset();
  restore_.deflated({0, kPageSize});
  EXPECT_THAT(restored_, IsEmpty());
}

}  // namespace
}  // namespace balloon::vmm
