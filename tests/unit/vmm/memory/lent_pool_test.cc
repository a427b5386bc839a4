// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/vmm/memory/lent_pool.h"

#include <gtest/gtest.h>
#include <signal.h>

namespace balloon::vmm::test {
namespace {

TEST(LentPoolDeathTest, WhatWasLentIsGivenBackHoweverItsHolderEnds) {
  const int before = LentPool(1).before();
  EXPECT_EXIT(
      {
        const LentPool pool(7);
        ::raise(SIGKILL);
      },
      testing::KilledBySignal(SIGKILL), "");
  EXPECT_EQ(LentPool(1).before(), before);
}

}  // namespace
}  // namespace balloon::vmm::test
