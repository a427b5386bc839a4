// SPDX-License-Identifier: Apache-2.0
#include "policy/peers/laws.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "tests/unit/policy/peers/hosts.h"

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

TEST(LawsTest, OursIsTheFirstAndOnlyOursWaitsForWhatOthersFreeAndDecidesEarly) {
  EXPECT_EQ(laws().front().name, "balloond");
  for (const Law& law : laws()) {
    EXPECT_EQ(law.admit != nullptr, law.name.starts_with("balloond")) << law.name;
    EXPECT_EQ(law.urgent != nullptr, law.name.starts_with("balloond")) << law.name;
  }
}

TEST(LawsTest, EachRivalThatDecidesAgainAndAgainIsThereWithOurTiming) {
  for (const Law& law : laws()) {
    const Law* ours = find_law(std::string(law.name) + "@1s");
    const bool once = law.name == "none" || law.name == "static" || law.name.starts_with("balloond");
    ASSERT_EQ(ours == nullptr, once) << law.name;
    if (ours == nullptr) continue;
    EXPECT_EQ(ours->period, laws().front().period) << law.name;
    EXPECT_EQ(ours->urgent, laws().front().urgent) << law.name;
    EXPECT_EQ(ours->stats_period.count(), 0) << law.name;
    EXPECT_EQ(ours->admit, law.admit) << law.name;
  }
}

TEST(LawsTest, OnlyQmemmanHasStatisticsOfItsOwnPace) {
  for (const Law& law : laws())
    EXPECT_EQ(law.stats_period, std::chrono::milliseconds(law.name == "qmemman" ? 100 : 0)) << law.name;
}

// ---- Whatever guests and hosts do ----

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    state_ += 0x9e3779b97f4a7c15;
    std::uint64_t z = (state_ ^ (state_ >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  std::uint64_t below(std::uint64_t bound) { return bound == 0 ? 0 : next() % bound; }
  Bytes below(Bytes bound) { return Bytes{below(bound.count())}; }
  Bytes size() { return Bytes{next()}; }
  bool once_in(std::uint64_t times) { return next() % times == 0; }

 private:
  std::uint64_t state_;
};

/// A statistic: mostly possible, sometimes absurd or absent.
std::optional<Bytes> statistic(Random& random, Bytes bound) {
  switch (random.below(12)) {
    case 0:
      return std::nullopt;
    case 1:
      return Bytes::max();
    case 2:
      return random.size();
    case 3:
      return Bytes{0};
    default:
      return random.below(bound + Bytes{1});
  }
}

GuestSnapshot random_guest(Random& random, std::string name) {
  GuestSnapshot guest;
  guest.name = std::move(name);
  guest.memory = random.once_in(50) ? Bytes{0} : random.below(8 * kGiB);
  guest.limits.max = random.once_in(10) ? random.size() : random.below(guest.memory + Bytes{1});
  guest.limits.min = random.once_in(10) ? random.size() : random.below(guest.limits.max / 2 + Bytes{1});
  guest.limits.weight = static_cast<std::uint32_t>(random.below(400));
  guest.actual = guest.target = guest.memory;
  return guest;
}

void change(Random& random, Time now, GuestSnapshot& guest) {
  guest.controllable = !random.once_in(10);
  // The balloon goes some way to its target; sometimes the VMM says anything.
  if (guest.actual > guest.target) {
    guest.actual -= random.below(guest.actual - guest.target + Bytes{1});
  } else {
    guest.actual += random.below(guest.target - guest.actual + Bytes{1});
  }
  guest.on_host.resident = random.once_in(20) ? random.size() : random.below(guest.memory + Bytes{1});
  guest.stats.reset();
  if (random.once_in(8)) return;
  GuestStats& stats = guest.stats.emplace();
  stats.sampled_at = now - std::chrono::nanoseconds(random.below(20'000'000'000));
  stats.actual = random.once_in(20) ? random.size() : guest.actual;
  stats.total = statistic(random, guest.memory);
  stats.available = statistic(random, guest.actual);
  stats.free = statistic(random, guest.actual);
  stats.disk_caches = statistic(random, guest.actual);
  stats.swap_in = statistic(random, kGiB);
  stats.swap_out = statistic(random, kGiB);
}

/// A host over time: guests and reservations come and go.
class RandomHost {
 public:
  explicit RandomHost(std::uint64_t seed) : random_(seed) {
    now_.host.total = random_.once_in(50) ? Bytes{0} : random_.below(16 * kGiB);
  }

  const Snapshot& next(const Plan* plan) {
    for (std::size_t i = 0; plan != nullptr && i < now_.guests.size(); ++i) {
      if (now_.guests[i].controllable) now_.guests[i].target = plan->guests[i].target;
    }
    now_.now += std::chrono::milliseconds(random_.once_in(20) ? random_.below(100'000) : 100);
    HostSnapshot& host = now_.host;
    host.available = random_.once_in(20) ? random_.size() : random_.below(host.total + Bytes{1});
    host.free = std::min(host.available, random_.below(host.total + Bytes{1}));
    host.pressure_some = random_.once_in(3) ? static_cast<double>(random_.below(101)) / 100 : 0;
    if (random_.once_in(2)) {
      host.ksm.emplace().pages_to_scan = random_.once_in(10) ? random_.next() : random_.below(2000);
    } else {
      host.ksm.reset();
    }
    if (now_.guests.size() < 6 && random_.once_in(4)) join();
    if (!now_.guests.empty() && random_.once_in(15)) {
      now_.guests.erase(now_.guests.begin() + static_cast<std::ptrdiff_t>(random_.below(now_.guests.size())));
    }
    if (random_.once_in(10)) {
      const Bytes min = random_.below(4 * kGiB);
      now_.reservations.push_back(
          {.id = fmt::format("r{}", ++reservations_), .min = min, .max = min + random_.below(kGiB)});
    }
    if (!now_.reservations.empty() && random_.once_in(10)) now_.reservations.erase(now_.reservations.begin());
    for (GuestSnapshot& guest : now_.guests) change(random_, now_.now, guest);
    return now_;
  }

 private:
  void join() {
    const std::string name = fmt::format("g{:03}", random_.below(1000));
    const auto at = std::ranges::lower_bound(now_.guests, name, {}, &GuestSnapshot::name);
    if (at != now_.guests.end() && at->name == name) return;
    now_.guests.insert(at, random_guest(random_, name));
  }

  Random random_;
  Snapshot now_{.now = std::chrono::hours(1), .host = {}, .guests = {}, .groups = {}, .reservations = {}};
  int reservations_ = 0;
};

/// Compares what a plan does, not what it says.
bool same(const Plan& one, const Plan& other) {
  const auto same_guest = [](const GuestPlan& a, const GuestPlan& b) {
    return a.name == b.name && a.target == b.target && a.state == b.state;
  };
  const auto same_grant = [](const ReservationPlan& a, const ReservationPlan& b) {
    return a.id == b.id && a.state == b.state && a.granted == b.granted;
  };
  return std::ranges::equal(one.guests, other.guests, same_guest) &&
         std::ranges::equal(one.reservations, other.reservations, same_grant) &&
         one.ksm.has_value() == other.ksm.has_value() &&
         (!one.ksm || (one.ksm->run == other.ksm->run && one.ksm->pages_to_scan == other.ksm->pages_to_scan &&
                       one.ksm->sleep == other.ksm->sleep));
}

constexpr std::uint64_t kHosts = 300;
constexpr int kTicks = 80;

class RivalTest : public testing::TestWithParam<std::string_view> {};

TEST_P(RivalTest, AsksForNothingThatAGuestCannotBe) {
  const Law& law = *find_law(GetParam());
  for (std::uint64_t seed = 0; seed < kHosts; ++seed) {
    RandomHost host(seed);
    const auto controller = law.make({});
    std::optional<Plan> last;
    for (int tick = 0; tick < kTicks; ++tick) {
      const Snapshot& snapshot = host.next(last ? &*last : nullptr);
      last = controller->decide(snapshot);
      ASSERT_EQ(last->guests.size(), snapshot.guests.size());
      ASSERT_EQ(last->reservations.size(), snapshot.reservations.size());
      for (std::size_t i = 0; i < snapshot.guests.size(); ++i) {
        ASSERT_EQ(last->guests[i].name, snapshot.guests[i].name);
        ASSERT_LE(last->guests[i].target, snapshot.guests[i].memory) << "host " << seed << ", tick " << tick;
      }
      for (std::size_t i = 0; i < snapshot.reservations.size(); ++i) {
        const ReservationPlan& grant = last->reservations[i];
        ASSERT_EQ(grant.id, snapshot.reservations[i].id);
        if (grant.state != GrantState::granted) continue;
        // squeezed counts in KiB.
        ASSERT_GE(grant.granted + kKiB, snapshot.reservations[i].min) << "host " << seed << ", tick " << tick;
        ASSERT_LE(grant.granted, snapshot.reservations[i].max) << "host " << seed << ", tick " << tick;
      }
    }
  }
}

TEST_P(RivalTest, DecidesTheSameOnTheSame) {
  const Law& law = *find_law(GetParam());
  for (std::uint64_t seed = 0; seed < kHosts / 3; ++seed) {
    RandomHost host(seed);
    const auto one = law.make({});
    const auto other = law.make({});
    std::optional<Plan> last;
    for (int tick = 0; tick < kTicks; ++tick) {
      const Snapshot& snapshot = host.next(last ? &*last : nullptr);
      last = one->decide(snapshot);
      ASSERT_TRUE(same(*last, other->decide(snapshot))) << "host " << seed << ", tick " << tick;
    }
  }
}

/// All but ours, whose own properties are tested beside it.
std::vector<std::string_view> rivals() {
  std::vector<std::string_view> names;
  for (const std::span<const Law> some : {laws(), laws_at_our_timing()}) {
    for (const Law& law : some) {
      if (!law.name.starts_with("balloond")) names.push_back(law.name);
    }
  }
  return names;
}

INSTANTIATE_TEST_SUITE_P(Rivals, RivalTest, testing::ValuesIn(rivals()), [](const auto& test) {
  std::string name(test.param);
  std::ranges::replace_if(name, [](char c) { return c == '-' || c == '@'; }, '_');
  return name;
});

}  // namespace
}  // namespace balloon::policy::peers
