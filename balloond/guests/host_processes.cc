// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/host_processes.h"

#include <algorithm>

namespace balloon::daemon {
namespace {

/// Processes whose mappings are looked at again each second; a thousand have their turn in a few minutes.
constexpr std::size_t kRoomsATime = 4;
constexpr std::chrono::nanoseconds kRoomsPeriod = std::chrono::seconds(1);

}  // namespace

policy::GuestOnHost HostProcesses::Sight::part_of(Bytes guest_memory) const {
  policy::GuestOnHost part = on_host.value_or(policy::GuestOnHost{});
  if (memory <= guest_memory) return part;
  const double share = static_cast<double>(guest_memory) / static_cast<double>(memory);
  for (Bytes* size : {&part.resident, &part.swapped})
    *size = static_cast<Bytes>(static_cast<double>(*size) * share);
  return part;
}

std::shared_ptr<VmmObserver> HostProcesses::of(pid_t pid) {
  auto fresh = std::make_shared<VmmObserver>(root_, pid);
  if (pid == 0) return fresh;
  std::shared_ptr<VmmObserver> known;
  {
    const MutexLock lock(mutex_);
    known = known_[pid].lock();
  }
  if (known && known->alive()) return known;
  const MutexLock lock(mutex_);
  known_[pid] = fresh;
  return fresh;
}

void HostProcesses::look(Sights& sights, Bytes host_total, Time now) {
  for (auto& [observer, sight] : sights) {
    sight.on_host = observer->look(sight.memory);
    if (!sight.reads_are_counted && sight.guests == 1) sight.disk_read = observer->disk_read();
  }
  look_at_rooms(sights, now);
  for (auto& [observer, sight] : sights) {
    Bytes possible = host_total;
    if (const auto room = observer->room()) {
      const Bytes resident = sight.on_host ? sight.on_host->resident : Bytes{0};
      possible = std::min(possible, std::max(*room, resident));
    }
    sight.credit = Credit::of(sight.memory, possible);
  }
  const MutexLock lock(mutex_);
  std::erase_if(known_, [](const auto& process) { return process.second.expired(); });
}

/// Some of them each second, in turn: what a process has mapped changes seldom, and takes long to read.
void HostProcesses::look_at_rooms(const Sights& sights, Time now) {
  if (rooms_looked_at_ && now - *rooms_looked_at_ < kRoomsPeriod) return;
  rooms_looked_at_ = now;
  auto next = sights.upper_bound(room_looked_at_);
  for (std::size_t i = 0; i < std::min(kRoomsATime, sights.size()); ++i) {
    if (next == sights.end()) next = sights.begin();
    next->first->look_at_room();
    room_looked_at_ = next->first;
    ++next;
  }
}

}  // namespace balloon::daemon
