// Invariants 1, 2, 4 and 5 on many random hosts: whatever the guests do and say, limits and budget hold, and
// constant inputs come to rest.
#include <gtest/gtest.h>

#include <random>

#include "fake_host.h"

namespace balloon::policy {
namespace {

class RandomHost {
 public:
  explicit RandomHost(std::uint64_t seed) : random_(seed) {}

  Bytes between(Bytes low, Bytes high) { return low + random_() % (high - low + 1); }
  bool one_in(int n) { return random_() % static_cast<std::uint64_t>(n) == 0; }

  FakeHost make(Bytes slowest_balloon) {
    FakeHost host(between(kGiB, 64 * kGiB), between(0, 512 * kMiB));
    const auto count = between(1, 24);
    for (Bytes i = 0; i < count; ++i) {
      const Bytes memory = between(64, 8192) * kMiB;
      const Bytes min = between(0, memory / kMiB) * kMiB;
      const Bytes max = min + between(0, (memory - min) / kMiB) * kMiB;
      auto& guest = host.add(memory, between(32 * kMiB, memory),
                             {min, std::max<Bytes>(max, kMiB), static_cast<std::uint32_t>(between(1, 1000))});
      guest.speed = between(slowest_balloon, 4 * kGiB);
    }
    return host;
  }

  /// Says anything at all on a guest's behalf.
  void lie(GuestSnapshot& guest) {
    static constexpr Bytes kAnything[] = {0, 1, 4095, kMiB, kGiB, 1ULL << 62, ~0ULL, ~0ULL - 1};
    const auto pick = [&] { return kAnything[random_() % std::size(kAnything)]; };
    if (!guest.stats) guest.stats = GuestStats{};
    if (one_in(2)) guest.stats->available = pick();
    if (one_in(2)) guest.stats->total = pick();
    if (one_in(2)) guest.stats->actual = pick();
    if (one_in(2)) guest.stats->swap_in = pick();
    if (one_in(2)) guest.stats->swap_out = pick();
    if (one_in(4)) guest.stats->sampled_at = Time(static_cast<std::int64_t>(random_() % (1ULL << 50)));
    if (one_in(4)) guest.on_host.resident = pick();
  }

 private:
  std::mt19937_64 random_;
};

TEST(Invariants, TargetsStayWithinLimitsAndBudgetOnAnyHostWithAnyGuests) {
  for (std::uint64_t seed = 0; seed < 3000; ++seed) {
    RandomHost random(seed);
    FakeHost host = random.make(0);
    Engine engine({});
    for (int tick = 0; tick < 25; ++tick) {
      for (auto& guest : host.guests) {
        if (random.one_in(5)) guest.used = random.between(0, guest.seen.memory);
        guest.answers = !random.one_in(6);
        guest.seen.controllable = !random.one_in(10);
        if (random.one_in(30)) guest.seen.pin = Pin{random.between(0, 2 * guest.seen.memory)};
        if (random.one_in(20)) guest.seen.pin.reset();
      }
      Snapshot seen = host.snapshot();
      for (auto& guest : seen.guests) {
        if (random.one_in(4)) random.lie(guest);
      }
      if (random.one_in(10)) seen.now -= std::chrono::hours(2);
      Plan plan = engine.decide(seen);
      const auto moves = admit(plan, seen.guests);
      Bytes before = 0;
      Bytes after = 0;
      Bytes shrunk = 0;
      std::vector<Bytes> target;
      for (const auto& guest : seen.guests) target.push_back(guest.target);
      for (const Move& move : moves) target[move.guest] = move.target;
      for (std::size_t i = 0; i < seen.guests.size(); ++i) {
        const auto& guest = seen.guests[i];
        before += std::max(guest.actual, guest.target);
        shrunk += std::max(guest.actual, std::min(guest.target, target[i]));
        after += std::max(guest.actual, target[i]);
        if (target[i] == guest.target) continue;
        const Bytes low = std::min(guest.limits.min, guest.target);
        // A stuck balloon's target is put where the balloon is; apart from that nothing leaves the limits.
        ASSERT_TRUE(target[i] >= low || target[i] == guest.actual)
            << "seed " << seed << " tick " << tick << " " << guest.name;
        ASSERT_LE(target[i], guest.memory) << "seed " << seed;
        if (target[i] > std::max(guest.actual, guest.target) && !guest.pin) {
          ASSERT_LE(target[i], guest.limits.max) << "seed " << seed;
        }
      }
      ASSERT_LE(after, std::max(plan.budget, shrunk))
          << "a grow was not paid for; seed " << seed << " tick " << tick;
      ASSERT_LE(after, std::max(plan.budget, before)) << "seed " << seed << " tick " << tick;
      for (const Move& move : moves) host.guests[move.guest].seen.target = move.target;
      for (auto& guest : host.guests) {
        guest.seen.actual = random.between(std::min(guest.seen.actual, guest.seen.target),
                                           std::max(guest.seen.actual, guest.seen.target));
      }
      host.now += std::chrono::milliseconds(random.between(10, 3000));
    }
  }
}

TEST(Invariants, CommittedMemoryComesUnderTheBudgetUnlessMinimumsForbidIt) {
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    RandomHost random(seed);
    FakeHost host = random.make(256 * kMiB);
    Engine engine({});
    Plan plan;
    for (int tick = 0; tick < 90; ++tick) plan = host.step(engine);
    if (plan.state == HostState::infeasible) {
      for (const auto& guest : host.guests) {
        ASSERT_EQ(guest.seen.target, guest.seen.limits.min) << "seed " << seed << " " << guest.seen.name;
      }
    } else {
      ASSERT_LE(host.committed(), plan.budget) << "seed " << seed;
    }
  }
}

TEST(Invariants, ConstantInputsComeToRestWithoutOvershootOrReversal) {
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    RandomHost random(seed);
    FakeHost host = random.make(256 * kMiB);
    Engine engine({});
    for (int tick = 0; tick < 120; ++tick) host.step(engine);
    std::vector<Bytes> rest;
    for (const auto& guest : host.guests) rest.push_back(guest.seen.target);
    for (int tick = 0; tick < 60; ++tick) {
      host.step(engine);
      ASSERT_TRUE(host.last_moves.empty())
          << "seed " << seed << " still moves after two minutes of constant inputs: "
          << host.guests[host.last_moves[0].guest].seen.name << " " << tick;
    }
    for (std::size_t i = 0; i < host.guests.size(); ++i) ASSERT_EQ(host.guests[i].seen.target, rest[i]);
  }
}

TEST(Invariants, DirectionChangesAreBoundedUnderAnOscillatingLoad) {
  for (const int period : {2, 3, 5, 8, 13, 21, 40, 120}) {
    FakeHost host(8 * kGiB);
    for (int i = 0; i < 6; ++i) host.add(2 * kGiB, 150 * kMiB, {256 * kMiB, 2 * kGiB, 100});
    Engine engine({});
    std::vector<int> direction(6, 0);
    int reversals = 0;
    constexpr int kSeconds = 480;
    for (int second = 0; second < kSeconds; ++second) {
      for (std::size_t i = 0; i < 2; ++i) {
        const bool high = (second / std::max(1, period / 2) + static_cast<int>(i)) % 2 == 0;
        host.guests[i].used = high ? 1500 * kMiB : 200 * kMiB;
      }
      std::vector<Bytes> before;
      for (const auto& guest : host.guests) before.push_back(guest.seen.target);
      host.step(engine);
      for (std::size_t i = 0; i < 6; ++i) {
        const Bytes now = host.guests[i].seen.target;
        const int went = now > before[i] ? 1 : now < before[i] ? -1 : direction[i];
        if (direction[i] != 0 && went != direction[i]) ++reversals;
        direction[i] = went;
      }
    }
    // A hold of 10 s allows at most two reversals of each of the two guests in any 10 s, and the settling of
    // the rest.
    EXPECT_LE(reversals, 2 * 2 * kSeconds / 10 + 12) << "period " << period;
  }
}

}  // namespace
}  // namespace balloon::policy
