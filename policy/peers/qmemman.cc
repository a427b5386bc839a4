// SPDX-License-Identifier: Apache-2.0
#include "policy/peers/qmemman.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/pages.h"
#include "policy/peers/plans.h"
#include "policy/peers/readings.h"

namespace balloon::policy::peers {
namespace {

constexpr auto kPageBytes = static_cast<double>(kPageSize);

double seconds(std::chrono::nanoseconds time) { return std::chrono::duration<double>(time).count(); }

double risen(const std::optional<Bytes>& from, const std::optional<Bytes>& to) {
  return from && to && *to > *from && *to != Bytes::max() ? static_cast<double>(*to - *from) : 0.0;
}

}  // namespace

Plan Qmemman::decide(const Snapshot& snapshot) {
  Plan plan = hold(snapshot);
  if (observe(snapshot)) {
    balance_.reset();  // it counted with other guests
    if (request_) request_->asked.clear();
    meminfo_changed_ = true;
  }
  match_reservations(snapshot);
  if (start()) {
    balance_.reset();
  } else if (balance_) {
    --balance_->tries;
    refresh_actual();
    continue_balance();
  } else if (request_) {
    continue_request();
  } else if (meminfo_changed_) {
    start_balance();
  }
  for (std::size_t i = 0; i < snapshot.guests.size(); ++i) {
    const GuestSnapshot& guest = snapshot.guests[i];
    const QmemmanDomain& domain = tracks_[i].domain;
    GuestPlan& mine = plan.guests[i];
    if (domain.mem_used) {
      mine.used = static_cast<Bytes>(std::clamp(*domain.mem_used, 0.0, static_cast<double>(guest.memory)));
      mine.need =
          static_cast<Bytes>(std::min(pref_mem(settings_, domain), static_cast<double>(guest.memory)));
      ask(guest, domain.last_target, mine);
    }
    if (domain.no_progress) mine.state = GuestState::stuck;
  }
  for (std::size_t i = 0; i < snapshot.reservations.size(); ++i) {
    const Reservation& reservation = snapshot.reservations[i];
    ReservationPlan& mine = plan.reservations[i];
    if (std::ranges::find(denied_, reservation.id) != denied_.end()) mine.state = GrantState::denied;
    if (!request_ || request_->id != reservation.id || !request_->granted) continue;
    mine.state = GrantState::granted;
    mine.granted = reservation.min;
  }
  return plan;
}

/// Whether guests came or went.
bool Qmemman::observe(const Snapshot& snapshot) {
  const bool others = tracks_.align(snapshot);
  domains_.clear();
  for (std::size_t i = 0; i < snapshot.guests.size(); ++i) {
    const GuestSnapshot& guest = snapshot.guests[i];
    Track& track = tracks_[i];
    QmemmanDomain& domain = track.domain;
    if (!track.known || !guest.controllable) {
      domain.last_target = static_cast<double>(guest.target);
      domain.mem_actual = std::max(static_cast<double>(guest.actual), domain.last_target);
      track.known = true;
    }
    domain.mem_current = static_cast<double>(guest.actual);
    domain.mem_max = static_cast<double>(std::min(guest.limits.max, guest.memory));
    domain.min_prefmem = std::min(static_cast<double>(guest.limits.min), domain.mem_max);
    track.started |= guest.controllable;
    meminfo_changed_ |= receive(guest, track);
    if (domain.mem_used) domain.last_target = std::max(domain.last_target, domain.min_prefmem);
    domains_.push_back(&domain);
  }
  unassigned_ = static_cast<double>(snapshot.host.total) - host_own_use(snapshot) - settings_.dom0_mem_boost;
  for (std::size_t i = 0; i < snapshot.guests.size(); ++i)
    unassigned_ -= held(snapshot.guests[i], tracks_[i]);
  return others;
}

/// A domain has what it was given. One that starts, or whose balloon nobody ever saw, was given its initial
/// memory, and not its maximum as guests are here: that is its minimum, or more when it touched more.
double Qmemman::held(const GuestSnapshot& guest, const Track& track) const {
  const auto size = static_cast<double>(guest.actual);
  if (track.started) return size;
  return std::min(size, std::max(track.domain.min_prefmem, static_cast<double>(guest.on_host.resident)));
}

/// Domains never have more than the host, so that free memory is never less than nothing, and all of qmemman
/// counts on that. Guests here begin with their boot memory. When that is too much, one that reports for the
/// first time is put to what it prefers, and all to what fits. Returns whether that goes on.
bool Qmemman::start() {
  if (!starting_) return false;
  if (free() >= 0) {  // it is not too much
    for (std::size_t i = 0; i < tracks_.size(); ++i) tracks_[i].starts = false;
    return starting_ = false;
  }
  bool moving = false;
  for (std::size_t i = 0; i < domains_.size(); ++i) {
    QmemmanDomain& domain = *domains_[i];
    Track& track = tracks_[i];
    if (std::exchange(track.starts, false)) {
      domain.last_target = std::min(domain.last_target, pref_mem(settings_, domain));
      track.unmoved = 0;
    }
    if (!domain.mem_used || domain.no_progress || domain.mem_current <= domain.last_target + kPageBytes)
      continue;
    track.unmoved = domain.mem_current < domain.mem_actual ? 0 : track.unmoved + 1;
    if (track.unmoved * settings_.balloon_delay > settings_.start_patience_s) domain.no_progress = true;
    moving |= !domain.no_progress;
  }
  refresh_actual();
  fit();
  return starting_ = moving && free() < 0;
}

/// When targets come to more than there is, guests have the same part of what they are to have beyond their
/// minimums.
void Qmemman::fit() {
  double room = unassigned_ - settings_.xen_free_mem_left;
  double least = 0;
  double beyond = 0;
  const auto moves = [](const QmemmanDomain& domain) { return domain.mem_used && !domain.no_progress; };
  for (const QmemmanDomain* domain : domains_) {
    if (!moves(*domain)) continue;
    room += domain->mem_current;
    least += domain->min_prefmem;
    beyond += domain->last_target - domain->min_prefmem;
  }
  if (least + beyond <= room || beyond <= 0) return;
  const double part = std::clamp((room - least) / beyond, 0.0, 1.0);
  for (QmemmanDomain* domain : domains_) {
    if (moves(*domain))
      domain->last_target = domain->min_prefmem + part * (domain->last_target - domain->min_prefmem);
  }
}

/// The guest's meminfo-writer: writes when use has changed enough, or half as much when the guest needs more
/// than it has. Without statistics what it wrote last stays. Returns whether it wrote.
bool Qmemman::receive(const GuestSnapshot& guest, Track& track) {
  if (!guest.controllable) {
    track.domain.mem_used.reset();
    track.sent_used = 0;
    return false;
  }
  if (!guest.stats || guest.stats->sampled_at <= track.sampled_at) return false;
  estimate_swap(guest, track, seconds(guest.stats->sampled_at - track.sampled_at));
  track.sampled_at = guest.stats->sampled_at;
  const auto in_memory = reported_used(guest);
  if (!in_memory) return false;
  const double used = *in_memory + track.swapped;
  const double change = std::abs(used - track.sent_used);
  const bool short_of_memory =
      used > track.sent_used && used * 13 / 10 > static_cast<double>(guest.stats->actual);
  const double threshold = settings_.used_mem_change_threshold * (short_of_memory ? 0.5 : 1.0);
  if (track.sent_used > 0 && change <= threshold) return false;
  track.sent_used = used;
  if (!track.domain.mem_used) track.starts = starting_ = true;
  track.domain.mem_used = used;
  return true;
}

void Qmemman::estimate_swap(const GuestSnapshot& guest, Track& track, double elapsed) const {
  const double out = risen(track.swap_out, guest.stats->swap_out);
  const double in = risen(track.swap_in, guest.stats->swap_in);
  track.swapped = std::clamp(track.swapped * std::exp2(-elapsed / settings_.swapped_half_life) + out - in,
                             0.0, static_cast<double>(guest.memory));
  track.swap_in = guest.stats->swap_in;
  track.swap_out = guest.stats->swap_out;
}

/// On the host, in no guest, and not promised to one.
double Qmemman::free() const {
  double free = unassigned_;
  for (const QmemmanDomain* domain : domains_)
    free -= std::max(0.0, domain->last_target - domain->mem_current);
  return free;
}

void Qmemman::refresh_actual() {
  for (QmemmanDomain* domain : domains_)
    domain->mem_actual = std::max(domain->mem_current, domain->last_target);
}

void Qmemman::set(std::size_t guest, double target) {
  domains_[guest]->last_target = std::max(domains_[guest]->min_prefmem, target);
}

void Qmemman::start_balance() {
  meminfo_changed_ = false;
  refresh_actual();
  for (QmemmanDomain* domain : domains_) {  // who did what was asked, or needs more, is innocent again
    if (!domain->mem_used) continue;
    if (domain->mem_actual <= domain->last_target + settings_.xen_free_mem_left / 2 ||
        domain->mem_actual < pref_mem(settings_, *domain)) {
      domain->no_progress = domain->slow_memset_react = false;
    }
  }
  auto requests = balance(settings_, free() - settings_.xen_free_mem_left, domains_);
  if (!significant(requests, free())) return;
  balance_ =
      Balance{.requests = std::move(requests), .actual_before = {}, .next = 0, .tries = settings_.tries};
  for (const QmemmanDomain* domain : domains_) balance_->actual_before.push_back(domain->mem_actual);
  continue_balance();
}

bool Qmemman::significant(const std::vector<QmemmanRequest>& requests, double free) const {
  if (settings_.xen_free_mem_left - free > settings_.min_mem_change_when_under_pref) return true;
  double moved = std::abs(free - settings_.xen_free_mem_left);
  for (const QmemmanRequest& request : requests) {
    const QmemmanDomain& domain = *domains_[request.guest];
    const double change = request.target - domain.last_target;
    moved += std::abs(change);
    if (domain.last_target > 0 && domain.last_target < pref_mem(settings_, domain) &&
        change > settings_.min_mem_change_when_under_pref) {
      return true;
    }
  }
  return moved > settings_.min_total_memory_transfer;
}

/// Applies requests as far as memory is free for them. The first one that would leave too little waits; when
/// that does not help, its guest gets what there is and the balance ends.
void Qmemman::continue_balance() {
  Balance& balance = *balance_;
  for (; balance.next < balance.requests.size(); ++balance.next) {
    const auto [guest, target] = balance.requests[balance.next];
    const double actual = domains_[guest]->mem_actual;
    if (free() - (target - actual) < 0.9 * settings_.xen_free_mem_left) {
      if (balance.tries > 0) return;
      blame(balance.next);
      set(guest, std::max(0.0, free()) + actual - settings_.xen_free_mem_left);
      balance_.reset();
      return;
    }
    set(guest, target);
    balance.tries = settings_.tries;
  }
  balance_.reset();
}

/// Marks donors, asked before the request that waits in vain, that still have more than they should.
void Qmemman::blame(std::size_t waiting) {
  for (std::size_t i = 0; i < waiting; ++i) {
    const std::size_t guest = balance_->requests[i].guest;
    QmemmanDomain& domain = *domains_[guest];
    if (domain.mem_actual <= domain.last_target + settings_.xen_free_mem_left / 4) continue;
    (balance_->actual_before[guest] == domain.mem_actual ? domain.no_progress : domain.slow_memset_react) =
        true;
  }
}

/// One client is served at a time; the next one waits until its guest has started or was refused.
void Qmemman::match_reservations(const Snapshot& snapshot) {
  const auto there = [&snapshot](const std::string& id) {
    return std::ranges::find(snapshot.reservations, id, &Reservation::id) != snapshot.reservations.end();
  };
  std::erase_if(denied_, [&there](const std::string& id) { return !there(id); });
  if (request_ && !there(request_->id)) {
    request_.reset();
    meminfo_changed_ = true;
  }
  if (request_) return;
  for (const Reservation& reservation : snapshot.reservations) {
    if (std::ranges::find(denied_, reservation.id) != denied_.end()) continue;
    request_ = Request{};
    request_->id = reservation.id;
    request_->size = static_cast<double>(reservation.min);
    request_->free_before.assign(static_cast<std::size_t>(std::max(
                                     1.0, std::round(settings_.check_period_s / settings_.balloon_delay))),
                                 0);
    for (QmemmanDomain* domain : domains_) domain->no_progress = false;
    return;
  }
}

/// One iteration of do_balloon.
void Qmemman::continue_request() {
  Request& request = *request_;
  if (request.granted) return;
  refresh_actual();
  const double now_free = free();
  if (now_free >= request.size + settings_.xen_free_mem_min) {
    request.granted = true;
    return;
  }
  if (!enough_speed(now_free) || !ask_donors(now_free)) refuse();
}

/// Whether enough has become free over the last check period.
bool Qmemman::enough_speed(double now_free) {
  Request& request = *request_;
  const auto period = static_cast<int>(request.free_before.size());
  double& before = request.free_before[static_cast<std::size_t>(request.iteration % period)];
  if (request.iteration >= period && now_free < before + settings_.check_period_s * settings_.check_mb_s) {
    return false;
  }
  before = now_free;
  ++request.iteration;
  return true;
}

/// Asks donors for what is missing, leaving out those that did not move. False when they cannot bring it.
bool Qmemman::ask_donors(double now_free) {
  Request& request = *request_;
  for (Request::Asked& asked : request.asked) {
    QmemmanDomain& domain = *domains_[asked.guest];
    asked.unmoved = domain.mem_actual == asked.actual ? asked.unmoved + 1 : 0;
    asked.actual = domain.mem_actual;
    if (asked.unmoved >= settings_.patience) domain.no_progress = true;
  }
  const auto targets =
      balloon_down(settings_, request.size + settings_.xen_free_mem_left - now_free, domains_);
  if (targets.empty()) return false;
  std::vector<Request::Asked> next;
  for (const QmemmanRequest& to : targets) {
    const auto before = std::ranges::find(request.asked, to.guest, &Request::Asked::guest);
    next.push_back(
        {to.guest, domains_[to.guest]->mem_actual, before == request.asked.end() ? 0 : before->unmoved});
    set(to.guest, to.target);
  }
  request.asked = std::move(next);
  return true;
}

void Qmemman::refuse() {
  denied_.push_back(request_->id);
  request_.reset();
  meminfo_changed_ = true;
}

}  // namespace balloon::policy::peers
