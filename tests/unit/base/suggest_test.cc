// SPDX-License-Identifier: Apache-2.0
#include "base/suggest.h"

#include <gtest/gtest.h>

#include <vector>

namespace balloon {
namespace {

const std::vector<std::string> kKnown{"list", "show", "reservations"};

TEST(Suggest, NamesTheWordThatWasProbablyMeant) {
  EXPECT_EQ(suggest("lst", kKnown), "list");
  EXPECT_EQ(suggest("shwo", kKnown), "show");
  EXPECT_EQ(suggest("reservatoins", kKnown), "reservations");
}

TEST(Suggest, SaysNothingOfWordsThatAreTooFar) {
  EXPECT_EQ(suggest("frobnicate", kKnown), std::nullopt);
  EXPECT_EQ(suggest("", kKnown), std::nullopt);
  EXPECT_EQ(suggest("list", {}), std::nullopt);
}

}  // namespace
}  // namespace balloon
