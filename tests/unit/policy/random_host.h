// SPDX-License-Identifier: Apache-2.0
// Random hosts and guests that do and say anything, for tests of what must hold whatever happens.
#pragma once

#include <cmath>
#include <limits>
#include <random>
#include <type_traits>

#include "fake_host.h"

namespace balloon::policy {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif
/// Random hosts that go through a sequence of hostile ticks each. Instrumented code is some 20 times slower.
inline constexpr std::uint64_t kHostileHosts = kSanitized ? 5'000 : 100'000;
/// Random hosts that are followed until they are at rest.
inline constexpr std::uint64_t kSettlingHosts = kSanitized ? 300 : 3'000;

class RandomHost {
 public:
  explicit RandomHost(std::uint64_t seed) : random_(seed) {}

  std::uint64_t between(std::uint64_t low, std::uint64_t high) { return low + random_() % (high - low + 1); }
  Bytes between(Bytes low, Bytes high) { return Bytes{between(low.count(), high.count())}; }
  bool one_in(int n) { return random_() % static_cast<std::uint64_t>(n) == 0; }

  FakeHost make(Bytes slowest_balloon, std::uint64_t most_guests) {
    FakeHost host(between(kGiB, 64 * kGiB), between(Bytes{0}, 512 * kMiB));
    if (one_in(4)) {
      for (const char* name : {"a", "b", "c"}) {
        const Bytes min = between(Bytes{0}, 2 * kGiB);
        host.groups.push_back(
            {name, min, min + between(Bytes{0}, 16 * kGiB), static_cast<std::uint32_t>(between(1, 1000))});
      }
    }
    const auto count = between(1, most_guests);
    for (std::uint64_t i = 0; i < count; ++i) add_guest(host, slowest_balloon);
    return host;
  }

  void add_guest(FakeHost& host, Bytes slowest_balloon) {
    const Bytes memory = between(64, 8192) * kMiB;
    const Bytes min = between(0, memory / kMiB) * kMiB;
    const Bytes max = min + between(0, (memory - min) / kMiB) * kMiB;
    auto& guest = host.add(memory, between(32 * kMiB, memory),
                           {min, std::max<Bytes>(max, kMiB), static_cast<std::uint32_t>(between(1, 1000))});
    guest.speed = between(slowest_balloon, 4 * kGiB);
    if (!host.groups.empty() && one_in(2)) guest.seen.limits.group = host.groups[between(0, 2)].name;
  }

  /// Guests come and go, change what they use, fall silent, are set by hand; reservations come and go.
  void live(FakeHost& host) {
    if (one_in(15) && host.guests.size() > 1)
      host.guests.erase(host.guests.begin() + static_cast<long>(between(0, host.guests.size() - 1)));
    if (one_in(15)) {
      add_guest(host, Bytes{0});
      host.guests.back().seen.name += fmt::format("-{}", random_() % 1000);
    }
    for (auto& guest : host.guests) {
      if (one_in(5)) guest.used = between(Bytes{0}, guest.seen.memory);
      guest.answers = !one_in(6);
      guest.seen.controllable = !one_in(10);
      guest.seen.on_host.pinned = one_in(40);
      if (one_in(30)) guest.seen.pin = Pin{between(Bytes{0}, 2 * guest.seen.memory)};
      if (one_in(20)) guest.seen.pin.reset();
    }
    if (one_in(8)) {
      const Bytes min = between(Bytes{0}, 4 * kGiB);
      host.reservations.push_back({fmt::format("r{}", random_() % 100000), min, between(Bytes{0}, 8 * kGiB),
                                   static_cast<std::uint32_t>(between(0, 1000)),
                                   host.now + std::chrono::seconds(between(0, 30))});
    }
    if (one_in(8) && !host.reservations.empty()) host.reservations.erase(host.reservations.begin());
  }

  /// Says anything at all on a guest's behalf.
  void lie(GuestSnapshot& guest) {
    const auto maybe = [&](auto& field, int n) {
      if (one_in(n)) field = static_cast<std::remove_reference_t<decltype(field)>>(anything());
    };
    if (!guest.stats) guest.stats = GuestStats{};
    maybe(guest.stats->available, 2);
    maybe(guest.stats->total, 2);
    maybe(guest.stats->actual, 2);
    maybe(guest.stats->free, 2);
    maybe(guest.stats->disk_caches, 3);
    maybe(guest.stats->swap_in, 2);
    maybe(guest.stats->swap_out, 2);
    maybe(guest.stats->major_faults, 2);
    maybe(guest.stats->disk_read, 2);
    maybe(guest.stats->oom_kills, 3);
    maybe(guest.stats->alloc_stalls, 3);
    maybe(guest.stats->direct_scans, 3);
    maybe(guest.on_host.resident, 4);
    maybe(guest.on_host.swapped, 4);
    maybe(guest.on_host.swap_in, 4);
    maybe(guest.on_host.refaults, 4);
    if (one_in(4)) guest.stats->sampled_at = any_time();
    if (one_in(4)) guest.on_host.pressure_some = any_ratio();
  }

  /// And on the host's: its kernel does not lie, but its counters may be anything.
  void lie(HostSnapshot& host) {
    if (one_in(3)) host.available = Bytes{one_in(2) ? 0 : anything()};
    if (one_in(3)) host.swap_in = Bytes{anything()};
    if (one_in(3)) host.swap_out = Bytes{anything()};
    if (one_in(3)) host.swap_total = Bytes{anything()};
    if (one_in(3)) host.pressure_some = any_ratio();
    if (one_in(3)) host.pressure_full = any_ratio();
    if (one_in(3))
      host.ksm = KsmSnapshot{one_in(2), Bytes{anything()}, Bytes{anything()}, Bytes{anything()}, anything(),
                             {},        one_in(2)};
  }

  Time any_time() {
    switch (random_() % 4) {
      case 0:
        return Time::max();
      case 1:
        return Time::min();
      default:
        return Time(static_cast<std::int64_t>(random_() % (1ULL << 50)));
    }
  }

 private:
  std::uint64_t anything() {
    static constexpr std::uint64_t kAnything[] = {0, 1, 4095, 1 << 20, 1 << 30, 1ULL << 62, ~0ULL, ~0ULL - 1};
    return kAnything[random_() % std::size(kAnything)];
  }
  double any_ratio() {
    static constexpr double kAnything[] = {0,
                                           0.05,
                                           1,
                                           -1,
                                           1e300,
                                           std::numeric_limits<double>::infinity(),
                                           -std::numeric_limits<double>::infinity(),
                                           std::numeric_limits<double>::quiet_NaN()};
    return kAnything[random_() % std::size(kAnything)];
  }

  std::mt19937_64 random_;
};

}  // namespace balloon::policy
