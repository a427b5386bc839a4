// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/net/net.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

#include "base/log.h"
#include "vmm/devices/net/offloads.h"

namespace balloon::vmm {
namespace {

using namespace net_feature;  // NOLINT: what the device negotiates

constexpr std::uint16_t kLinkUp = 1;    // VIRTIO_NET_S_LINK_UP
constexpr std::uint16_t kAnnounce = 2;  // VIRTIO_NET_S_ANNOUNCE

}  // namespace

// --- The virtio device ---

std::uint32_t Net::config_size() const { return sizeof(ConfigSpace); }

void Net::read_config(std::uint32_t offset, std::span<std::byte> into) {
  static_assert(sizeof(ConfigSpace) == 12);
  wishes_->carry_out();  // a cable that was pulled before is seen pulled
  std::memcpy(into.data(), std::as_bytes(std::span(&space_, 1)).data() + offset, into.size());
}

void Net::write_config(std::uint32_t /*offset*/, std::span<const std::byte> /*from*/) {}

void Net::activate(std::uint64_t features, std::vector<std::unique_ptr<VirtQueue>> queues) {
  features_ = consistent(features);
  guest_offloads_ = features_ & kGuestOffloads;
  // 5.1.2: the control queue comes after the pairs that the driver knows of.
  control_queue_ = static_cast<std::uint16_t>((features_ & kMq) != 0 ? 2 * pairs_.size() : 2);
  active_ = true;
  const FrameShape shape{.features = features_, .tap_header = pairs_[0].tap.has_vnet_header()};
  // Of the interface as a whole; queues that are detached could not even be asked.
  if (!pairs_[0].tap.set_header_size(shape.header_size()))
    log::error("{}: the tap does not take a header of {} bytes", name_, shape.header_size());
  for (Pair& pair : pairs_) {
    pair.receiver.start(shape, queue_sizes_[pair.receive_queue]);
    pair.sender.start(shape);
  }
  if (!tell_tap()) log::error("{}: the tap refuses the offloads it offered", name_);
  queues_->start(host(), std::move(queues));
  use_pair(pairs_[0], true);
}

void Net::process_queue(std::uint16_t index) {
  if (!active_) return;
  if (index == control_queue_) return serve_control(index);
  const std::size_t number = index / 2;
  if (number >= pairs_.size() || !pairs_[number].used) return;
  Pair& pair = pairs_[number];
  if (pair.by_vhost()) {
    // A kick that was on its way when vhost took the queue over, or the look after DRIVER_OK.
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(pair.vhost->kick_event(index % 2), &one, sizeof one);
  } else if (index == pair.receive_queue) {
    go_on_receiving(pair);  // there is room again
  } else {
    send(pair);
  }
}

void Net::reset() {
  for (Pair& pair : pairs_) {
    use_pair(pair, false);
    pair.receiver.forget();
  }
  if (queues_) queues_->stop();
  active_ = false;
  features_ = guest_offloads_ = 0;
  space_.mac = first_mac_;
  space_.status &= static_cast<std::uint16_t>(~kAnnounce);
  filter_ = {};
  pairs_[0].tap.clear_filter();
}

// --- Receiving ---

void Net::watch_tap(Pair& pair) {
  if (pair.watching || !pair.used || pair.by_vhost() || !link_up()) return;
  const auto watched = loop_.watch(pair.tap.fd(), [this, &pair] {
    const MutexLock lock(mutex());
    on_tap(pair);
  });
  if (!watched) log::error("{}: {}", name_, watched.error().message);
  pair.watching = watched.has_value();
}

void Net::unwatch_tap(Pair& pair) {
  pair.watching = false;
  loop_.unwatch(pair.tap.fd());
}

/// On the loop's thread, while the tap has frames. Only here the watch may end.
void Net::on_tap(Pair& pair) {
  const bool ours = active_ && pair.used && !pair.by_vhost() && link_up();
  if (!ours || queues_->at(pair.receive_queue) == nullptr) return unwatch_tap(pair);
  receive(pair);
  // The frames wait in the tap, and the tap is not watched until the guest kicks with new buffers, or tokens
  // come: watching it would spin, and not looking at the queue again after asking for the kick would freeze
  // (CVE-2020-16843).
  if (pair.stalled) unwatch_tap(pair);
}

void Net::go_on_receiving(Pair& pair) {
  if (pair.receiver.waits()) receive(pair);  // the tap need not have another frame that would wake us
  watch_tap(pair);
}

void Net::receive(Pair& pair) {
  pair.stalled = false;
  TurnBudget budget;
  for (int left = kFramesPerTurn; left > 0; --left) {
    VirtQueue* const queue = queues_->at(pair.receive_queue);
    pair.stalled = queue == nullptr || wait_for_tokens(receive_limit_);
    if (pair.stalled) break;
    const auto outcome = pair.receiver.receive(*queue, pair.tap, budget);
    if (!outcome) {
      queues_->broken(pair.receive_queue, outcome.error());
      pair.stalled = true;
      break;
    }
    if (*outcome == Receiver::Outcome::tap_empty) break;
    if (*outcome == Receiver::Outcome::tap_failed) {
      tap_gone(pair);
      break;
    }
    if (*outcome == Receiver::Outcome::starved) {
      ++counters_.starved;
      pair.stalled = true;
      break;
    }
    if (*outcome == Receiver::Outcome::turn_over) {
      queues_->come_back(pair.receive_queue);  // the tap need not have a frame that wakes us
      break;
    }
    if (*outcome == Receiver::Outcome::dropped) {
      ++counters_.received_too_large;
      continue;
    }
    ++counters_.received;
    counters_.received_bytes += pair.receiver.frame_size();
    receive_limit_.spend(pair.receiver.frame_size());
  }
  counters_.receive_malformed += pair.receiver.take_malformed();
  queues_->notify(pair.receive_queue);
}

/// The tap will not bring a frame any more: the guest should know, and the loop should not spin on its error.
void Net::tap_gone(Pair& pair) {
  log::error("{}: the tap is gone; the guest's link is down", name_);
  cable_ = false;
  pair.stalled = true;
  set_status(static_cast<std::uint16_t>(space_.status & ~kLinkUp));
}

// --- Sending ---

void Net::send(Pair& pair) {
  const std::uint16_t index = pair.send_queue();
  VirtQueue* const queue = queues_->at(index);
  if (queue == nullptr) return;
  TurnBudget budget(TurnBudget::Clock::now(), kBytesPerTurn);
  do {
    queue->disable_kicks();
    while (!budget.over()) {
      if (wait_for_tokens(send_limit_)) return;
      auto chain = queue->take();
      if (!chain) return queues_->broken(index, chain.error());
      if (!*chain) break;
      budget.take_chain();
      const auto outcome = link_up() ? pair.sender.send(**chain, pair.tap) : Sender::Outcome::dropped;
      count_sent(outcome, pair.sender.frame_size());
      queue->put(std::move(**chain), 0);
      // At once, if the guest asks: its TCP lets little more than a frame or two be under way (TCP small
      // queues), so that it prepares the next one only when it hears that this one is out.
      queues_->notify(index);
      budget.spend(Bytes{pair.sender.frame_size()});
      budget.look_at_clock();  // the kernel may have taken the frame to pieces, and brought them to their end
    }
    if (budget.over()) {
      queues_->come_back(index);
      break;
    }
  } while (queue->enable_kicks());
}

void Net::count_sent(Sender::Outcome outcome, std::uint64_t size) {
  switch (outcome) {
    case Sender::Outcome::sent:
      ++counters_.sent;
      counters_.sent_bytes += size;
      send_limit_.spend(size);
      return;
    case Sender::Outcome::malformed:
      ++counters_.send_malformed;
      send_limit_.spend(0);
      return;
    case Sender::Outcome::dropped:
      ++counters_.send_dropped;  // as on a wire: what matters is sent again
      if (!link_up()) return;
      if (const auto times = failures_.happened())
        log::warning("{}: the tap did not take {} frames", name_, *times);
  }
}

// --- The rate limit ---

/// Whether frames have to wait; then the timer brings them on.
bool Net::wait_for_tokens(FrameLimit& limit) {
  if (!limit.limits()) return false;  // reads no clock for each frame
  const auto wait = limit.wait(loop_.clock().now());
  if (wait == std::chrono::nanoseconds::zero()) return false;
  ++counters_.limited;
  tokens_->set(wait);
  return true;
}

void Net::on_tokens() {
  const MutexLock lock(mutex());
  tokens_->set({});
  for (Pair& pair : pairs_) {
    if (!active_ || !pair.used || pair.by_vhost()) continue;
    go_on_receiving(pair);
    send(pair);
  }
}

// --- The control queue ---

void Net::serve_control(std::uint16_t index) {
  queues_->serve(index, [this](VirtQueue& queue, Work& work, TurnBudget& budget) REQUIRES(mutex()) {
    const std::uint32_t written = answer_control(work.chain, features_, *this);
    budget.look_at_clock();  // the tap's filter may have been set
    queue.put(std::move(work.chain), written);
    return Progress::done;
  });
}

bool Net::filter_changed() {
  const Tap& tap = pairs_[0].tap;
  if (filter_.promiscuous || filter_.all_unicast) {
    tap.clear_filter();
    return true;
  }
  // Filtering is best effort (5.1.6.5.2.1): a backend that has no filter gives the guest more than it asked
  // for.
  if (!tap.set_filter(filter_.addresses(space_.mac), filter_.all_multicast || filter_.multicast_overflow))
    log::debug("{}: the tap has no filter", name_);
  return true;
}

bool Net::set_mac(const MacAddress& mac) {
  if (!is_unicast(mac)) return false;
  space_.mac = mac;
  return filter_changed();
}

bool Net::announced() {
  space_.status &= static_cast<std::uint16_t>(~kAnnounce);
  return true;
}

bool Net::set_queue_pairs(unsigned pairs) {
  if (pairs < 1 || pairs > pairs_.size()) return false;
  for (std::size_t i = 0; i < pairs_.size(); ++i) {
    use_pair(pairs_[i], i < pairs);
    if (i >= pairs) continue;
    // What the driver made available before it switched the pair on.
    queues_->come_back(pairs_[i].receive_queue);
    queues_->come_back(pairs_[i].send_queue());
  }
  return true;
}

bool Net::set_guest_offloads(std::uint64_t features) {
  const std::uint64_t before = std::exchange(guest_offloads_, features);
  if (tell_tap()) return true;
  guest_offloads_ = before;
  return false;
}

bool Net::tell_tap() {
  if (!pairs_[0].tap.has_vnet_header()) return true;
  return pairs_[0].tap.set_offloads(offloads_of_features(guest_offloads_));
}

// --- From outside the guest ---

bool Net::link_up() const { return (space_.status & kLinkUp) != 0; }

void Net::set_status(std::uint16_t status) {
  if (std::exchange(space_.status, status) != status && active_) host().interrupt_config();
}

void Net::set_link(bool up) {
  wishes_->post([this, up]() REQUIRES(mutex()) { plug(up); });
}

void Net::plug(bool up) {
  if (std::exchange(cable_, up) == up) return;
  pairs_[0].tap.set_carrier(up);
  set_status(static_cast<std::uint16_t>(up ? space_.status | kLinkUp : space_.status & ~kLinkUp));
  for (Pair& pair : pairs_) {
    if (!pair.used) continue;
    if (!up) {
      if (pair.vhost) pair.vhost->pause();
    } else if (pair.by_vhost()) {
      go_on(pair);
    } else {
      if (pair.vhost) start_vhost(pair);
      watch_tap(pair);
    }
  }
}

bool Net::announce() {
  const MutexLock lock(mutex());
  if (!active_ || (features_ & kGuestAnnounce) == 0 || !link_up()) return false;
  set_status(space_.status | kAnnounce);
  return true;
}

NetState Net::state() const {
  const MutexLock lock(mutex());
  wishes_->carry_out();
  return {.mac = space_.mac,
          .own_mac = first_mac_,
          .link = link_up(),
          .vhost = pairs_[0].by_vhost(),
          .pairs = static_cast<unsigned>(std::ranges::count_if(pairs_, &Pair::used)),
          .offloads = offloads_of_features(guest_offloads_)};
}

NetCounters Net::counters() const {
  const MutexLock lock(mutex());
  return counters_;
}

}  // namespace balloon::vmm
