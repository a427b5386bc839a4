#include "policy/explain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fake_host.h"

namespace balloon::policy {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr GuestLimits kLimits{256 * kMiB, 2 * kGiB, 100};

/// What the last of `seconds` decisions said of the first guest.
struct Said {
  GuestPlan plan;
  std::string text;
};

Said after(FakeHost& host, Engine& engine, int seconds) {
  Said said;
  for (int i = 0; i < seconds; ++i) {
    const Snapshot seen = host.snapshot();
    const Plan plan = host.step(engine);
    said = {plan.guests[0],
            explain(plan.guests[0], seen.guests[0].limits, seen.guests[0].actual, plan.budget)};
  }
  return said;
}

FakeHost host_of(int guests, Bytes used) {
  FakeHost host(8 * kGiB);
  for (int i = 0; i < guests; ++i) host.add(2 * kGiB, used, kLimits);
  return host;
}

TEST(Explain, AddsUpTheTermsOfANeed) {
  FakeHost host = host_of(2, 600 * kMiB);
  Engine engine({});
  const Said said = after(host, engine, 100);
  EXPECT_EQ(said.plan.why.source, Source::statistics);
  EXPECT_EQ(said.plan.why.trust, Trust::believed);
  EXPECT_EQ(said.plan.why.need.used, 600 * kMiB);
  const NeedTerms& need = said.plan.why.need;
  EXPECT_NEAR(static_cast<double>(need.used + need.margin + need.growth + need.swapped + need.cache +
                                  need.rescue + need.recent),
              static_cast<double>(said.plan.need), kMiB);
  EXPECT_EQ(said.plan.reason, Reason::need);
  EXPECT_EQ(said.plan.why.otherwise.condition, Condition::none);
  EXPECT_THAT(said.text, AllOf(HasSubstr("600 MiB used"), HasSubstr("margin")));
}

TEST(Explain, SaysHowMuchMoreMemoryTheHostWouldNeed) {
  FakeHost host = host_of(6, 1900 * kMiB);
  Engine engine({});
  const Said said = after(host, engine, 60);
  EXPECT_EQ(said.plan.reason, Reason::share);
  EXPECT_EQ(said.plan.why.otherwise.condition, Condition::budget);
  EXPECT_EQ(said.plan.why.otherwise.amount, said.plan.need - said.plan.share);
  EXPECT_THAT(said.text, AllOf(HasSubstr("share by weight 100"), HasSubstr("more on the host it would have"),
                               HasSubstr("It is critical: it has next to nothing available")));
}

TEST(Explain, SaysThatAGroupIsFull) {
  FakeHost host = host_of(2, 900 * kMiB);
  host.groups = {{"small", 0, 700 * kMiB, 100}};
  host.guests[0].seen.limits.group = "small";
  Engine engine({});
  const Said said = after(host, engine, 60);
  EXPECT_EQ(host.guests[0].seen.actual, 700 * kMiB);
  EXPECT_EQ(said.plan.why.otherwise.condition, Condition::group);
  EXPECT_THAT(said.text, HasSubstr("its group small"));
}

TEST(Explain, SaysHowLongAGuestIsHeld) {
  FakeHost host = host_of(2, 300 * kMiB);
  Engine engine({});
  const Said said = after(host, engine, 4);
  EXPECT_EQ(said.plan.reason, Reason::hold);
  EXPECT_EQ(said.plan.why.otherwise.condition, Condition::time);
  EXPECT_EQ(said.plan.why.otherwise.wait, std::chrono::seconds(7));
  EXPECT_THAT(said.text, HasSubstr("In 7 s it would be at"));
}

TEST(Explain, SaysThatASlowBalloonWaitsForAGrowthToEnd) {
  FakeHost host = host_of(2, 300 * kMiB);
  host.guests[0].speed = 10 * kMiB;
  Engine engine({});
  for (int i = 0; i < 60; ++i) host.step(engine);
  for (int i = 0; i < 10; ++i) {
    host.guests[0].used += 15 * kMiB;
    host.step(engine);
  }
  const Said said = after(host, engine, 1);
  EXPECT_EQ(said.plan.reason, Reason::hold);
  EXPECT_EQ(said.plan.why.otherwise.condition, Condition::growth);
  EXPECT_THAT(said.text, AllOf(HasSubstr("its use rises"), HasSubstr("it would shrink to")));
}

TEST(Explain, SaysThatAHigherMaximumWouldHelp) {
  FakeHost host = host_of(2, 1900 * kMiB);
  host.guests[0].seen.limits.max = kGiB;
  Engine engine({});
  const Said said = after(host, engine, 60);
  EXPECT_EQ(said.plan.reason, Reason::maximum);
  EXPECT_EQ(said.plan.why.otherwise.condition, Condition::maximum);
}

TEST(Explain, SaysThatALowerMinimumWouldLeaveLess) {
  FakeHost host = host_of(2, 200 * kMiB);
  host.guests[0].seen.limits.min = kGiB;
  Engine engine({});
  const Said said = after(host, engine, 60);
  EXPECT_EQ(said.plan.reason, Reason::minimum);
  EXPECT_EQ(said.plan.why.otherwise.condition, Condition::minimum);
  EXPECT_LT(said.plan.why.otherwise.target, 400 * kMiB);
}

TEST(Explain, SaysWhatIsMissingOfAGuestThatIsNotMoved) {
  FakeHost host = host_of(2, 300 * kMiB);
  host.guests[0].answers = false;
  Engine engine({});
  Said said = after(host, engine, 20);
  EXPECT_EQ(said.plan.why.otherwise.condition, Condition::statistics);
  host.guests[0].answers = true;
  host.guests[0].speed = 0;
  said = after(host, engine, 30);
  EXPECT_EQ(said.plan.state, GuestState::stuck);
  EXPECT_EQ(said.plan.why.otherwise.condition, Condition::balloon);
  host.guests[0].seen.pin = Pin{kGiB};
  said = after(host, engine, 2);
  EXPECT_EQ(said.plan.why.otherwise.condition, Condition::pin);
}

TEST(Explain, SaysWhatAWaitingGuestWaitsFor) {
  FakeHost host = host_of(6, 940 * kMiB);
  for (auto& guest : host.guests) {
    guest.seen.actual = guest.seen.target = 1200 * kMiB;
    guest.speed = kMiB;
  }
  host.guests[0].used = 1900 * kMiB;
  Tunables tunables;
  tunables.reserve_kept_ratio = 1;
  Engine engine(tunables);
  const Said said = after(host, engine, 2);
  EXPECT_EQ(said.plan.reason, Reason::waiting);
  EXPECT_THAT(said.text, HasSubstr("once others have freed"));
}

}  // namespace
}  // namespace balloon::policy
