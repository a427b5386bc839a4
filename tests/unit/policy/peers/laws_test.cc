#include "policy/peers/laws.h"

#include <gtest/gtest.h>

#include <set>

namespace balloon::policy::peers {
namespace {

TEST(LawsTest, HaveDistinctNamesUnderWhichTheyAreFound) {
  std::set<std::string_view> names;
  for (const Law& law : laws()) {
    EXPECT_TRUE(names.insert(law.name).second) << law.name;
    EXPECT_EQ(find_law(law.name), &law);
    EXPECT_FALSE(law.summary.empty()) << law.name;
    EXPECT_GT(law.period.count(), 0) << law.name;
  }
  EXPECT_EQ(find_law("no such law"), nullptr);
}

TEST(LawsTest, OursIsTheFirstAndTheOnlyOneThatWaitsForWhatOthersFree) {
  EXPECT_EQ(laws().front().name, "balloond");
  for (const Law& law : laws()) EXPECT_EQ(law.two_phase, law.name == "balloond") << law.name;
}

}  // namespace
}  // namespace balloon::policy::peers
