// SPDX-License-Identifier: Apache-2.0
// Who serves a network device's queue pairs, and when: this process, vhost, or nobody.
#include <array>
#include <utility>

#include "base/log.h"
#include "vmm/devices/net/net.h"

namespace balloon::vmm {

/// The tap's queue is attached before anybody looks at it, and detached after: a detached one only has
/// errors.
void Net::use_pair(Pair& pair, bool use) {
  if (pair.used == use) return;
  pair.used = use;
  const bool several = pairs_.size() > 1;
  if (!use) stop_vhost(pair);
  // The first queue is never detached: it is what the interface is known by.
  if (several && &pair != &pairs_[0] && !pair.tap.set_attached(use) && use)
    log::warning("{}: the tap does not attach a queue", name_);
  if (!use) return;  // the watch ends itself
  if (pair.vhost) start_vhost(pair);
  if (!pair.by_vhost()) watch_tap(pair);
}

void Net::start_vhost(Pair& pair) {
  VirtQueue* const receive_queue = queues_->at(pair.receive_queue);
  VirtQueue* const send_queue = queues_->at(pair.send_queue());
  if (receive_queue == nullptr || send_queue == nullptr || !link_up()) return;
  // Buffers that we hold are vhost's to take again.
  pair.receiver.forget();
  const auto ring_of = [&](const VirtQueue& queue, std::size_t ring) REQUIRES(mutex()) {
    return Vhost::Ring{.layout = queue.layout(),
                       .call = call_event(pair, ring),
                       .position = queue.position().rewound().next_available};
  };
  const std::array rings = {ring_of(*receive_queue, 0), ring_of(*send_queue, 1)};
  const auto started = pair.vhost->start(features_, rings, pair.tap.fd(), pair.tap.has_vnet_header());
  if (!started) {
    queues_->broken(pair.receive_queue, started.error());
    return;
  }
  for (std::size_t ring = 0; ring < Vhost::kRings; ++ring) {
    host().divert_kicks(static_cast<std::uint16_t>(pair.receive_queue + ring), pair.vhost->kick_event(ring));
  }
}

void Net::go_on(Pair& pair) {
  if (const auto resumed = pair.vhost->resume(); !resumed)
    queues_->broken(pair.receive_queue, resumed.error());
}

/// vhost found something in a ring that cannot be.
void Net::on_vhost_error(Pair& pair) {
  const MutexLock lock(mutex());
  if (!pair.by_vhost()) return;
  stop_vhost(pair);
  queues_->broken(pair.receive_queue, Error{"vhost: it cannot make sense of a ring"});
}

void Net::stop_vhost(Pair& pair) {
  if (!pair.by_vhost()) return;
  for (std::size_t ring = 0; ring < Vhost::kRings; ++ring)
    host().divert_kicks(static_cast<std::uint16_t>(pair.receive_queue + ring), -1);
  pair.vhost->pause();
  take_positions(pair);
  pair.vhost->stop();
}

/// So that the queues stand where vhost left them.
void Net::take_positions(Pair& pair) {
  for (std::size_t ring = 0; ring < Vhost::kRings; ++ring) {
    VirtQueue* const queue = queues_->at(static_cast<std::uint16_t>(pair.receive_queue + ring));
    if (queue == nullptr) continue;
    const std::uint16_t at = pair.vhost->position(ring);
    const auto set = queue->set_position({.next_available = at, .next_used = at});
    if (!set) log::error("{}: {}", name_, set.error().message);
  }
}

int Net::call_event(Pair& pair, std::size_t ring) {
  const int event = host().interrupt_event(static_cast<std::uint16_t>(pair.receive_queue + ring));
  return event >= 0 ? event : pair.calls[ring].get();
}

Result<void> Net::memory_changed() {
  for (Pair& pair : pairs_) {
    if (pair.vhost) BALLOON_TRY(pair.vhost->memory_changed());
  }
  return {};
}

// --- The transport takes queues back, gives them anew, moves their interrupts ---

void Net::reset_queue(std::uint16_t index) {
  Pair* const pair = pair_of(index);
  if (pair == nullptr) return queues_->remove(index);
  // vhost serves both queues of a pair or none: until the driver gives this one anew, the other is ours.
  stop_vhost(*pair);
  if (index == pair->receive_queue) pair->receiver.forget();
  queues_->remove(index);
  serve_pair(*pair);
}

void Net::start_queue(std::uint16_t index, std::unique_ptr<VirtQueue> queue) {
  queues_->add(index, std::move(queue));
  Pair* const pair = pair_of(index);
  if (pair == nullptr || !pair->used) return;
  if (pair->vhost) start_vhost(*pair);
  serve_pair(*pair);
}

/// The queue pair that has queue `index`; null when it is the control queue's.
Net::Pair* Net::pair_of(std::uint16_t index) {
  return index != control_queue_ && index / 2U < pairs_.size() ? &pairs_[index / 2U] : nullptr;
}

/// Goes on with what the queues of a pair have, where vhost does not.
void Net::serve_pair(Pair& pair) {
  if (!pair.used || pair.by_vhost()) return;
  watch_tap(pair);
  queues_->come_back(pair.receive_queue);
  queues_->come_back(pair.send_queue());
}

void Net::interrupts_changed() {
  for (Pair& pair : pairs_) {
    if (!pair.by_vhost()) continue;
    for (std::size_t ring = 0; ring < Vhost::kRings; ++ring)
      pair.vhost->set_call(ring, call_event(pair, ring));
  }
}

// --- Pauses and snapshots ---

void Net::pause() {
  const MutexLock lock(mutex());
  for (Pair& pair : pairs_) {
    if (!pair.by_vhost()) continue;
    pair.vhost->pause();
    take_positions(pair);  // for whoever saves the queues
  }
}

void Net::resume() {
  const MutexLock lock(mutex());
  for (Pair& pair : pairs_) {
    if (pair.by_vhost() && link_up()) go_on(pair);
  }
}

}  // namespace balloon::vmm
