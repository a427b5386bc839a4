// SPDX-License-Identifier: Apache-2.0
#include "balloond/host/vmm_observer.h"

#include <algorithm>
#include <utility>

#include "balloond/host/guest_room.h"

namespace balloon::daemon {
namespace {

/// A process can make what it has mapped usable, or useless, and stay as large (mprotect): its mappings are
/// read anyway when they have been passed over so often.
constexpr int kSameLooksMax = 30;

}  // namespace

std::optional<policy::GuestOnHost> VmmObserver::look(policy::Bytes memory) {
  const MutexLock lock(mutex_);
  const auto process = process_.sample();
  if (!process) return std::nullopt;
  mapped_ = process->mapped;
  policy::GuestOnHost seen{.resident = process->resident,
                           .swapped = process->swapped,
                           .swap_in = {},
                           .pressure_some = {},
                           .refaults = {},
                           // Buffers of I/O are pinned, too, for a moment: only most of the memory counts.
                           .pinned = process->pinned > memory / 2};
  const auto cgroup = cgroup_.sample();
  if (cgroup) {
    seen.swapped = std::max(seen.swapped, cgroup->swapped);
    seen.swap_in = cgroup->swap_in;
    seen.pressure_some = cgroup->pressure_some;
    seen.refaults = cgroup->refaults;
  } else {
    seen.swap_in = read_back(*process);
  }
  const Source source = cgroup ? Source::cgroup : Source::process;
  if (std::exchange(source_, source) != source) {
    seen.swap_in.reset();
    seen.refaults.reset();
  }
  swap_in_ = seen.swap_in;
  return seen;
}

std::optional<policy::Bytes> VmmObserver::disk_read() {
  const MutexLock lock(mutex_);
  const auto read = process_.bytes_read();
  if (read && read_) {
    const policy::Bytes rise = above(*read, *read_);
    const policy::Bytes swapped = swap_in_ && read_swap_in_ ? above(*swap_in_, *read_swap_in_) : Bytes{0};
    disk_read_ += above(rise, swapped);
  }
  read_ = read;
  read_swap_in_ = swap_in_;
  return read ? std::optional(disk_read_) : std::nullopt;
}

std::optional<policy::Bytes> VmmObserver::room() const {
  const MutexLock lock(mutex_);
  return room_;
}

void VmmObserver::look_at_room() {
  policy::Bytes mapped{};
  {
    const MutexLock lock(mutex_);
    if (mapped_ == room_mapped_ && ++same_looks_ < kSameLooksMax) return;
    mapped = mapped_;
  }
  const auto room = guest_room(root_, pid_);
  const MutexLock lock(mutex_);
  room_ = room;
  room_mapped_ = mapped;
  same_looks_ = 0;
}

/// Without a cgroup of its own: its major faults while it had memory in swap, a page each. Others read files;
/// what is read ahead is not seen, so this is the least that it can be.
std::optional<policy::Bytes> VmmObserver::read_back(const ProcessMemory& memory) {
  const auto faults = process_.major_faults();
  const bool has_swap = memory.swapped > Bytes{0};
  if (faults && faults_ && *faults > *faults_ && (has_swap || had_swap_))
    read_back_ += (*faults - *faults_) * page_size();
  faults_ = faults;
  had_swap_ = has_swap;
  return faults ? std::optional(read_back_) : std::nullopt;
}

}  // namespace balloon::daemon
