// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>

#include "policy/sim/generator.h"
#include "policy/sim/physics.h"
#include "policy/sim/random.h"

namespace balloon::policy::sim {
namespace {

/// Draws of its own, so that hosts and demands are drawn as in generator 1.
constexpr std::uint64_t kStream = 78;

// Parts are of guests, or of hosts where it says so.
constexpr double kRereads = 0.8;    // files outside the hot set that somebody reads again
constexpr double kFewFiles = 0.15;  // guests with next to no files
constexpr double kStreams = 0.25;   // backups, logs, downloads
constexpr double kOwnArc = 0.05;
constexpr double kOwnZram = 0.15;
constexpr double kOurVmm = 0.5;         // whose balloon leaves huge pages whole
constexpr double kCountsNoReads = 0.2;  // hypervisors that do not tell what disks serve
constexpr double kHostArc = 0.15;       // of hosts: Proxmox installs on ZFS in this way or that
constexpr double kDiskHosts = 0.2;      // of hosts: guests' files are on disks that turn
constexpr double kFlashHosts = 0.4;     // of hosts: on NVMe
constexpr double kPinnedMost = 0.05;    // of the host's memory
constexpr double kLostLinks = 0.06;
constexpr double kSilence = 0.06;

Time to_time(double seconds) { return Time(static_cast<std::int64_t>(seconds * 1e3) * 1'000'000); }

void draw_files(Random& random, GuestSpec& guest) {
  const auto memory = static_cast<double>(guest.memory);
  GuestEffects& effects = guest.effects;
  effects.mapped = random.log_uniform(0.02, 0.3);
  const double reread = random.log_uniform(60, 1800);
  effects.reread = random.chance(kRereads) ? to_time(reread) : Time{};
  const double files = random.uniform(0.2, 0.8);
  guest.cold = constant(random.chance(kFewFiles) ? 0.02 * memory : files * memory);
  guest.cold_rate = random.log_uniform(10 * kMiBd, 200 * kMiBd);
  if (!random.chance(kStreams)) return;
  Term burst;
  burst.kind = Term::Kind::square;
  burst.high = random.log_uniform(2 * kMiBd, 100 * kMiBd);
  burst.duty = random.uniform(0.1, 1);
  burst.period = to_time(random.log_uniform(30, 300));
  burst.phase = to_time(random.uniform(0, 300));
  guest.stream = {burst};
}

void draw_kernel(Random& random, GuestSpec& guest) {
  const auto memory = static_cast<double>(guest.memory);
  GuestEffects& effects = guest.effects;
  const double noise = random.log_uniform(0.3, 3);
  effects.noise_rest *= noise;
  effects.noise_load *= noise;
  effects.lru_error *= random.uniform(0, 2);
  if (random.chance(kOurVmm)) effects.split = 0;
  effects.split_cost *= random.uniform(0, 2);
  if (guest.swap.size > Bytes{0} && random.chance(kOwnZram)) guest.swap = SwapDevice::zram(guest.swap.size);
  if (random.chance(kOwnArc)) guest.arc = constant(memory * random.uniform(0.1, 0.5));
  if (random.chance(kCountsNoReads)) guest.stats.disk_reads = false;
  guest.boot = to_time(random.log_uniform(5, 60));
}

/// One guest's connection is lost, or its statistics stop, for a while or for good.
void draw_events(Random& random, Scenario& scenario) {
  for (const GuestSpec& guest : scenario.guests) {
    const bool lost = random.chance(kLostLinks);
    const bool silent = random.chance(kSilence);
    const double at = random.uniform(60, 400);
    const double lasts = random.log_uniform(5, 600);
    if (!lost && !silent) continue;
    scenario.events.push_back({lost ? Event::Kind::link_lost : Event::Kind::stats_silent,
                               to_time(at),
                               to_time(at + lasts),
                               guest.name,
                               Lie::none,
                               {}});
  }
  std::ranges::stable_sort(scenario.events, {}, &Event::at);
}

}  // namespace

void add_effects(std::uint64_t seed, Scenario& scenario) {
  Random random(mix_seed(seed, kStream));
  const double disks = random.uniform();
  for (GuestSpec& guest : scenario.guests) {
    draw_files(random, guest);
    draw_kernel(random, guest);
    if (disks < kDiskHosts) {
      guest.disk = Disk::hdd();
    } else if (disks < kDiskHosts + kFlashHosts) {
      guest.disk = Disk::nvme();
    }
  }
  const auto host = static_cast<double>(scenario.host.memory);
  // The plant gives a pinned guest all of its memory at once, whether the host has it or not: only small
  // ones, which are there from the beginning.
  for (GuestSpec& guest : scenario.guests)
    guest.pinned = guest.pinned && guest.joins == Time{} && !guest.reservation &&
                   static_cast<double>(guest.memory) < kPinnedMost * host;
  const double arc = random.uniform(0.05, 0.3);
  if (random.chance(kHostArc)) scenario.host.arc = constant(arc * host);
  draw_events(random, scenario);
}

}  // namespace balloon::policy::sim
