// SPDX-License-Identifier: Apache-2.0
#include "balloond/api/page.h"

#include <gtest/gtest.h>

namespace balloon::daemon {
namespace {

TEST(PageTest, APageEndsWithItsSizeOrWithWhatAClientTakes) {
  Page three(3);
  EXPECT_TRUE(three.takes(1) && three.takes(1) && three.takes(1));
  EXPECT_FALSE(three.takes(1));
  Page large(1000);
  EXPECT_TRUE(large.takes(Page::kBytesMost - 10));
  EXPECT_TRUE(large.takes(10));
  EXPECT_FALSE(large.takes(1));
  Page first(1000);
  EXPECT_TRUE(first.takes(2 * Page::kBytesMost)) << "or there would be no way past it";
  EXPECT_FALSE(first.takes(1));
}

TEST(PageTest, WithoutASizeItIsTheWholeList) {
  Page all(0);
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(all.takes(Page::kBytesMost));
}

}  // namespace
}  // namespace balloon::daemon
