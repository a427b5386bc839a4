// SPDX-License-Identifier: Apache-2.0
#include "policy/explain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fake_host.h"
#include "tests/unit/policy/mib.h"

namespace balloon::policy {
namespace {

using testing::AllOf;
using testing::AnyOf;
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
  EXPECT_NEAR(
      mib(need.used + need.margin + need.growth + need.swapped + need.cache + need.rescue + need.recent),
      mib(said.plan.need), 1);
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
  host.groups = {{"small", Bytes{0}, 700 * kMiB, 100}};
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
  EXPECT_THAT(said.text,
              AllOf(HasSubstr("its use or its page cache rises"), HasSubstr("it would shrink to")));
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
  host.guests[0].speed = Bytes{0};
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

/// A guest of 2 GiB whose maximum is 1 GiB, and what is known of it. Sizes in MiB.
class AlternativeTest : public testing::Test {
 protected:
  AlternativeTest() {
    seen_.memory = 2 * kGiB;
    seen_.limits = {256 * kMiB, kGiB, 100};
    plan_.need = 800 * kMiB;
    plan_.share = 500 * kMiB;
    plan_.target = 600 * kMiB;
    plan_.why.need = {.used = 100 * kMiB, .margin = 50 * kMiB, .growth = 30 * kMiB};
  }
  Alternative when(Reason reason) {
    plan_.reason = reason;
    return alternative_to(plan_, seen_, constraints_);
  }
  GuestSnapshot seen_;
  GuestPlan plan_;
  Constraints constraints_{.deadband = 16 * kMiB,
                           .held_for = std::chrono::seconds(7),
                           .shrink_per_second = static_cast<double>(50 * kMiB),
                           .foretold_max = std::chrono::hours(1)};
};

TEST_F(AlternativeTest, ToAShareIsAsMuchAsIsMissing) {
  EXPECT_EQ(when(Reason::share), (Alternative{Condition::budget, 800 * kMiB, 300 * kMiB, {}}));
  constraints_.group_full = true;
  EXPECT_EQ(when(Reason::share).condition, Condition::group);
  plan_.share = 900 * kMiB;
  EXPECT_EQ(when(Reason::share).amount, Bytes{0});
}

TEST_F(AlternativeTest, ToTheMaximumIsAHigherOneWhereThatIsWhatBinds) {
  EXPECT_EQ(when(Reason::maximum).condition, Condition::none) << "it needs less";
  plan_.need = kGiB;
  EXPECT_EQ(when(Reason::maximum), (Alternative{Condition::maximum, 2 * kGiB, kGiB, {}}));
  plan_.need = seen_.limits.max = seen_.memory;
  EXPECT_EQ(when(Reason::maximum).condition, Condition::none) << "it has no more memory";
}

TEST_F(AlternativeTest, ToTheMinimumIsWhatItWouldNeedWithoutIt) {
  EXPECT_EQ(when(Reason::minimum), (Alternative{Condition::minimum, 180 * kMiB, Bytes{0}, {}}));
  plan_.need = 150 * kMiB;
  EXPECT_EQ(when(Reason::minimum).target, 150 * kMiB);
}

TEST_F(AlternativeTest, ToADeadbandIsALargerChange) {
  EXPECT_EQ(when(Reason::deadband), (Alternative{Condition::larger_change, 500 * kMiB, 16 * kMiB, {}}));
}

TEST_F(AlternativeTest, ToAStepIsTheTimeThatTheRestTakes) {
  EXPECT_EQ(when(Reason::rate_limit),
            (Alternative{Condition::time, 500 * kMiB, 100 * kMiB, std::chrono::seconds(2)}));
  constraints_.foretold_max = std::chrono::seconds(1);
  EXPECT_EQ(when(Reason::rate_limit).wait, std::chrono::seconds(1));
  constraints_.shrink_per_second = 0;
  EXPECT_EQ(when(Reason::rate_limit).wait, std::chrono::seconds(0));
  plan_.share = 700 * kMiB;
  EXPECT_EQ(when(Reason::rate_limit).amount, Bytes{0});
}

TEST_F(AlternativeTest, ToAHoldIsWhatHoldsIt) {
  EXPECT_EQ(when(Reason::hold),
            (Alternative{Condition::time, 500 * kMiB, Bytes{0}, std::chrono::seconds(7)}));
  constraints_.grows = true;
  EXPECT_EQ(when(Reason::hold).condition, Condition::growth);
  plan_.why.pressure = Pressure::pressed;
  EXPECT_EQ(when(Reason::hold).condition, Condition::pressure);
}

TEST_F(AlternativeTest, ToWhatCannotBeMovedIsWhatIsMissing) {
  EXPECT_EQ(when(Reason::pin), (Alternative{Condition::pin, 800 * kMiB, Bytes{0}, {}}));
  EXPECT_EQ(when(Reason::stale), (Alternative{Condition::statistics, 800 * kMiB, Bytes{0}, {}}));
  plan_.state = GuestState::stuck;
  EXPECT_EQ(when(Reason::stale).condition, Condition::balloon);
  EXPECT_EQ(when(Reason::need).condition, Condition::none);
}

/// A guest that has 700 MiB, in words.
class WordsTest : public testing::Test {
 protected:
  WordsTest() {
    plan_.name = "web";
    plan_.state = GuestState::controlled;
    plan_.used = 300 * kMiB;
    plan_.need = 500 * kMiB;
    plan_.share = 650 * kMiB;
    plan_.target = 600 * kMiB;
    plan_.why.source = Source::statistics;
    plan_.why.trust = Trust::believed;
  }
  std::string words() const { return explain(plan_, kLimits, 700 * kMiB, 4 * kGiB); }
  std::string when(Reason reason) {
    plan_.reason = reason;
    return words();
  }
  std::string but(Condition condition) {
    plan_.why.otherwise = {condition, 640 * kMiB, 90 * kMiB, std::chrono::milliseconds(2100)};
    return words();
  }
  GuestPlan plan_;
};

TEST_F(WordsTest, SayWhyForEachReason) {
  EXPECT_THAT(when(Reason::unspecified), HasSubstr("web has 700 MiB and uses 300 MiB; it needs 500 MiB"));
  EXPECT_THAT(when(Reason::unspecified),
              HasSubstr("between 256 MiB and 2 GiB. Target 600 MiB: no decision yet."));
  EXPECT_THAT(when(Reason::need), HasSubstr("all that it needs"));
  EXPECT_THAT(when(Reason::minimum), HasSubstr("guaranteed minimum of 256 MiB"));
  EXPECT_THAT(when(Reason::maximum), HasSubstr("maximum of 2 GiB"));
  EXPECT_THAT(when(Reason::share), HasSubstr("than the 4 GiB that the host has"));
  EXPECT_THAT(when(Reason::deadband), HasSubstr("share of 650 MiB is too little more"));
  EXPECT_THAT(when(Reason::rate_limit), HasSubstr("shrinks to 650 MiB step by step"));
  EXPECT_THAT(when(Reason::hold), HasSubstr("it grew a moment ago"));
  EXPECT_THAT(when(Reason::pin), HasSubstr("a person or scheduler set it"));
  EXPECT_THAT(when(Reason::stale), HasSubstr("statistics are missing"));
  EXPECT_THAT(when(Reason::waiting), AllOf(HasSubstr("should have 650 MiB"), HasSubstr("have freed 50 MiB")));
  EXPECT_THAT(when(Reason::surplus), HasSubstr("nobody else needs the rest"));
  plan_.state = GuestState::stuck;
  EXPECT_THAT(when(Reason::stale), HasSubstr("makes no progress"));
  plan_.state = GuestState::booting;
  EXPECT_THAT(when(Reason::stale), HasSubstr("no statistics yet"));
  plan_.state = GuestState::disconnected;
  EXPECT_THAT(when(Reason::stale), HasSubstr("its size is held, as nobody can move its balloon."));
  EXPECT_THAT(explain(plan_, kLimits, 700 * kMiB, 4 * kGiB, "it does not run: paused"),
              HasSubstr("its size is held, as it does not run: paused."));
}

TEST_F(WordsTest, SayUnknownOfWhatIsNotKnown) {
  plan_.state = GuestState::stale;
  plan_.why.source = Source::none;
  EXPECT_THAT(words(),
              HasSubstr("web has 700 MiB; what it uses and needs is unknown; it may have 256 MiB to 2 "
                        "GiB. Target 600 MiB:"));
  EXPECT_THAT(but(Condition::pin), testing::Not(HasSubstr("it would need")));
}

TEST_F(WordsTest, SayOfABlindGuestWhatItHasTouchedAndNotWhatItUses) {
  plan_.why.source = Source::host;
  plan_.why.need.used = 300 * kMiB;
  EXPECT_THAT(words(),
              HasSubstr("web has 700 MiB; what it uses is unknown; it needs 500 MiB (300 MiB touched), "
                        "by what the host sees of it, as it has sent no statistics that can be "
                        "believed for long, between 256 MiB and 2 GiB."));
}

TEST_F(WordsTest, SayWhatAGuestThatNobodyMovesUsesAndNotWhatItNeeds) {
  plan_.state = GuestState::disconnected;
  EXPECT_THAT(words(), HasSubstr("web has 700 MiB and uses 300 MiB; it may have 256 MiB to 2 GiB."))
      << "its need in the plan is what it counts with";
}

TEST_F(WordsTest, SayWhatHurtsAndHowMuch) {
  EXPECT_THAT(words(), testing::Not(HasSubstr("It is ")));
  plan_.why.pressure = Pressure::pressed;
  const std::pair<Signal, const char*> signals[] = {
      {Signal::low_available, "next to nothing available"},
      {Signal::swap_in, "reads back from its swap"},
      {Signal::major_faults, "page cache that it had"},
      {Signal::alloc_stalls, "allocations stall"},
      {Signal::oom_kill, "killed a process"},
      {Signal::host_swap_in, "the host reads it back from swap"},
      {Signal::host_refaults, "the host reads it back from disk"},
      {Signal::host_pressure, "waits for memory on the host"}};
  for (const auto& [signal, text] : signals) {
    plan_.why.signal = signal;
    EXPECT_THAT(words(), AllOf(HasSubstr("It is under pressure: "), HasSubstr(text)));
  }
  plan_.why.pressure = Pressure::critical;
  EXPECT_THAT(words(), HasSubstr("It is critical: "));
  plan_.reason = Reason::hold;
  EXPECT_THAT(words(), HasSubstr("others have idle memory"));
}

TEST_F(WordsTest, SayWhatANeedIsMadeOf) {
  plan_.why.need = {.used = 300 * kMiB,
                    .margin = 20 * kMiB,
                    .growth = 30 * kMiB,
                    .swapped = 40 * kMiB,
                    .cache = 50 * kMiB,
                    .rescue = 60 * kMiB,
                    .recent = 1023 * kKiB};
  EXPECT_THAT(
      words(),
      HasSubstr("(300 MiB used + 20 MiB margin + 30 MiB growth + 40 MiB swapped out + 50 MiB cache in "
                "use + 60 MiB to let it out at once)"))
      << "what is less than a MiB does not count";
  plan_.why.need.recent = kMiB;
  EXPECT_THAT(words(), HasSubstr("1 MiB of a moment ago)"));
  EXPECT_THAT(words(),
              testing::Not(AnyOf(HasSubstr("by what the host sees"), HasSubstr("can have touched"))));
  plan_.why.trust = Trust::limited;
  EXPECT_THAT(words(), HasSubstr("more than it can have touched"));
  plan_.why.source = Source::host;
  EXPECT_THAT(words(), HasSubstr("by what the host sees of it"));
  plan_.why.source = Source::none;
  EXPECT_THAT(words(), testing::Not(HasSubstr("used +"))) << "nothing is known";
}

TEST_F(WordsTest, SayWhatWouldHaveChangedIt) {
  EXPECT_THAT(but(Condition::budget), HasSubstr("With 90 MiB more on the host it would have 640 MiB."));
  EXPECT_THAT(but(Condition::maximum), HasSubstr("A higher maximum than 2 GiB"));
  EXPECT_THAT(but(Condition::minimum), HasSubstr("A lower minimum would leave it 640 MiB."));
  EXPECT_THAT(but(Condition::group), HasSubstr("With a higher maximum of its group it would have 640 MiB."));
  EXPECT_THAT(but(Condition::larger_change), HasSubstr("A change of 90 MiB or more"));
  EXPECT_THAT(but(Condition::time), HasSubstr("In 3 s it would be at 640 MiB."));
  EXPECT_THAT(but(Condition::pressure), HasSubstr("Without the pressure it would shrink to 640 MiB."));
  EXPECT_THAT(but(Condition::growth), HasSubstr("Once it has come to rest it would shrink to 640 MiB."));
  EXPECT_THAT(but(Condition::statistics), HasSubstr("Statistics that can be believed"));
  EXPECT_THAT(but(Condition::balloon), HasSubstr("A balloon that moves"));
  EXPECT_THAT(but(Condition::pin), HasSubstr("Without the pin it would need 640 MiB."));
  plan_.state = GuestState::disconnected;
  EXPECT_THAT(but(Condition::statistics), testing::Not(HasSubstr("Statistics that can be believed")));
}

TEST_F(WordsTest, SayWhatAGuestThatIsNotMovedCountsWith) {
  plan_.untouched = 400 * kMiB;
  EXPECT_THAT(words(), testing::Not(HasSubstr("counts"))) << "it was promised its target";
  plan_.state = GuestState::stale;
  EXPECT_THAT(words(),
              HasSubstr("It counts with 300 MiB: what it has touched, may soon touch or is guaranteed. "
                        "The other 400 MiB are there for others."));
  plan_.untouched = kMiB - Bytes{1};
  EXPECT_THAT(words(), HasSubstr("All that it has counts."));
}

}  // namespace
}  // namespace balloon::policy
