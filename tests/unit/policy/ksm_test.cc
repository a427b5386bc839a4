// SPDX-License-Identifier: Apache-2.0
#include "policy/ksm.h"

#include <gtest/gtest.h>

#include "base/bytes.h"

namespace balloon::policy {
namespace {

class KsmTest : public testing::Test {
 protected:
  KsmTest() {
    snapshot_.host.total = 8 * kGiB;
    snapshot_.host.ksm = KsmSnapshot{.controllable = true};
    GuestSnapshot guest;
    guest.memory = 2 * kGiB;
    guest.on_host.resident = kGiB;
    snapshot_.guests.assign(4, guest);
    plan_.level = HostState::normal;
    plan_.budget = 7 * kGiB;
  }
  KsmPlan with_left(Bytes left) {
    return *governor_.update(snapshot_, plan_, static_cast<double>(plan_.budget - left), {});
  }

  Snapshot snapshot_;
  Plan plan_;
  KsmGovernor governor_;
};

TEST_F(KsmTest, IsLeftAloneOnAHostWithoutIt) {
  snapshot_.host.ksm.reset();
  EXPECT_FALSE(governor_.update(snapshot_, plan_, 0, {}));
}

TEST_F(KsmTest, IsLeftAloneWhereItIsNotOursAndBeginsAnewWhenItIs) {
  ASSERT_TRUE(with_left(kGiB).run);
  snapshot_.host.ksm->controllable = false;
  EXPECT_FALSE(governor_.update(snapshot_, plan_, 0, {}));
  snapshot_.host.ksm->controllable = true;
  EXPECT_FALSE(with_left(2 * kGiB).run) << "it was found stopped, and between the thresholds it stays so";
}

TEST_F(KsmTest, RunsWhileLittleIsLeftAndStopsOnlyWithMoreLeft) {
  EXPECT_FALSE(with_left(4 * kGiB).run);
  EXPECT_TRUE(with_left(kGiB).run);
  EXPECT_TRUE(with_left(2 * kGiB).run) << "between the two thresholds it goes on";
  EXPECT_FALSE(with_left(3 * kGiB).run);
  EXPECT_FALSE(with_left(2 * kGiB).run) << "and stays stopped";
}

TEST_F(KsmTest, RunsWhenTheHostIsShortWhateverGuestsNeed) {
  plan_.level = HostState::tight;
  EXPECT_TRUE(with_left(4 * kGiB).run);
}

TEST_F(KsmTest, ScansAllInTheTimeThatTheKernelsAdvisorAimsAtAndFasterWhenItIsUrgent) {
  const KsmPlan normal = with_left(kGiB);
  EXPECT_EQ(normal.sleep, std::chrono::milliseconds(20));
  // 4 GiB are 1048576 pages; in 200 s, with 50 rounds a second, that is 105 a round.
  EXPECT_EQ(normal.pages_to_scan, 128U);
  plan_.level = HostState::critical;
  EXPECT_EQ(with_left(kGiB).pages_to_scan, 384U);
}

TEST_F(KsmTest, SlowsDownWhereNothingCanBeMerged) {
  const auto before = with_left(kGiB).pages_to_scan;
  snapshot_.host.ksm->unshared = 4 * kGiB;
  EXPECT_LT(with_left(kGiB).pages_to_scan, before);
}

TEST_F(KsmTest, IsNotRunForGuestsThatOptOut) {
  for (GuestSnapshot& guest : snapshot_.guests) guest.limits.ksm = false;
  EXPECT_FALSE(with_left(Bytes{0}).run);
  snapshot_.guests[0].limits.ksm = true;
  EXPECT_TRUE(with_left(Bytes{0}).run);
}

TEST_F(KsmTest, IsNotRunWhereNoVmmHasOpenedItsMemoryToIt) {
  for (GuestSnapshot& guest : snapshot_.guests) guest.on_host.merging = false;
  EXPECT_FALSE(with_left(Bytes{0}).run);
  snapshot_.guests[0].on_host.merging = true;
  EXPECT_TRUE(with_left(Bytes{0}).run);
}

TEST_F(KsmTest, GoesOnAsItFindsItAfterARestart) {
  snapshot_.host.ksm->running = true;
  EXPECT_TRUE(with_left(2 * kGiB).run);
}

}  // namespace
}  // namespace balloon::policy
