// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/registry.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "balloond/guests/sanitize.h"
#include "base/bytes.h"
#include "base/log.h"
#include "base/other_controllers.h"

namespace balloon::daemon {
namespace {

/// A VMM that refused a target, or to end KSM, is not asked for the same again for this long.
constexpr std::chrono::nanoseconds kRefusalPause = std::chrono::seconds(10);
/// A VMM answers a target at once. One that does not for this long is complained of.
constexpr std::chrono::nanoseconds kAnswerMax = std::chrono::seconds(10);
/// A guest that left and whose process is unknown (a VMM in another PID namespace) is counted for this long.
constexpr std::chrono::nanoseconds kUnknownProcessGrace = std::chrono::seconds(60);

/// What a VMM says of a guest's time counts up to this: an absurd value is not to spoil a sum for ever.
constexpr std::chrono::nanoseconds kRoundTripMax = std::chrono::minutes(1);

double seconds_of(std::chrono::nanoseconds duration) { return static_cast<double>(duration.count()) / 1e9; }

std::optional<policy::UseSample> use_of(const std::optional<policy::GuestStats>& stats) {
  if (!stats || !stats->available) return std::nullopt;
  return policy::UseSample{.actual = stats->actual, .available = *stats->available};
}

/// The size that the hypervisor makes of it: no less than was granted.
Bytes in_steps(Bytes target, const GuestRecord& guest) {
  const Bytes step = std::max(guest.can.granularity, Bytes{1});
  const Bytes beyond = target % step;
  return std::min(beyond == Bytes{0} ? target : target + step - beyond, guest.memory);
}

}  // namespace

log::Source source_of(const Peer& peer) { return {fmt::format("process {} (uid {})", peer.pid, peer.uid)}; }

Registry::Registry(const Clock& clock, std::string root)
    : clock_(clock), root_(std::move(root)), processes_(root_) {}

std::expected<Session, JoinRefusal> Registry::joined(const Registration& registration, const Peer& peer,
                                                     std::shared_ptr<GuestChannel> channel) {
  if (const auto good = check_registration(registration); !good) {
    return std::unexpected(JoinRefusal{JoinRefusal::Kind::invalid, good.error().message});
  }
  const std::string& name = registration.name;
  Entry entry{.record = {},
              .channel = std::move(channel),
              .observer = processes_.of(peer.pid),
              .previous = {},
              .refused_target = {}};
  GuestRecord& record = entry.record;
  record.name = name;
  record.labels = registration.labels;
  record.labels.insert_or_assign("hypervisor",
                                 registration.hypervisor);  // for selectors, whatever it says itself
  record.memory = registration.memory;
  record.vcpus = registration.vcpus;
  record.hypervisor = registration.hypervisor;
  record.version = printable(registration.version);
  record.can = registration.can;
  record.peer = peer;
  record.connected = true;
  record.merging = registration.merging;
  record.balloon = *registration.balloon;
  if (clamp_balloon(record.balloon, record.memory)) ++record.rejected;
  record.target = record.balloon.target;
  record.on_host = entry.observer->look(record.memory).value_or(policy::GuestOnHost{});
  entry.observer->look_at_room();
  const std::optional<Session> gone = ended_stay(name);

  log::Later lines;
  const MutexLock lock(mutex_);
  const GuestRecord* const other = managed_by_another(record);
  if (other != nullptr && (other->connected || other->peer.pid != peer.pid || peer.pid == 0)) {
    return std::unexpected(JoinRefusal{JoinRefusal::Kind::already_managed,
                                       fmt::format("process {} is already managed as guest {} ({})",
                                                   other->peer.pid, other->name, other->hypervisor)});
  }
  if (const auto known = guests_.find(name); known != guests_.end()) {
    const GuestRecord& before = known->second.record;
    // A VMM that left without its process ending still has its memory: another one cannot take over its name.
    const bool other_lives = before.peer.pid != peer.pid && before.session != gone;
    if (before.connected || other_lives) {
      return std::unexpected(JoinRefusal{
          JoinRefusal::Kind::already_exists,
          fmt::format("guest {} is already run by process {}; choose another name, or stop it first", name,
                      before.peer.pid)});
    }
    if (&before != other) take_over(record, before);
  }
  if (other != nullptr) take_over(record, *other);
  if (const auto awaited = awaited_pins_.extract(name); awaited && awaited.mapped().expires > clock_.now())
    record.pin = awaited.mapped();
  record.session = ++last_session_;
  record.ready_since = clock_.now();
  lines.info(source_of(peer), "guest {} joined: process {}, uid {}, {} of {}, target {}", name, peer.pid,
             peer.uid, format_bytes(record.balloon.actual), format_bytes(record.memory),
             format_bytes(record.target));
  const Session session = record.session;
  names_.emplace(session, name);
  guests_.emplace(name, std::move(entry));
  tell({.kind = GuestChange::Kind::joined, .process = peer.pid});
  return session;
}

void Registry::stats(Session session, const StatsSample& stats) {
  log::Later lines;
  const MutexLock lock(mutex_);
  Entry* entry = by_session(session);
  if (entry == nullptr) return;
  GuestRecord& record = entry->record;
  StatsSample said = stats;
  drop_unknown(said);
  auto usable = usable_stats(said, {.memory = record.memory,
                                    .previous = entry->previous ? &*entry->previous : nullptr,
                                    .wall = clock_.wall(),
                                    .now = clock_.now()});
  const auto before = use_of(record.usable);
  if (said.disk_read) entry->counts_reads = true;
  if (usable) {
    // A count of another source would be a jump: the process stands in for a hypervisor that never counts.
    if (!entry->counts_reads) usable->disk_read = entry->disk_read_seen;
    record.usable = *usable;
    record.complaint.clear();
  } else {
    if (record.complaint.empty()) {
      lines.warning(source_of(record.peer), "guest {} sends statistics that make no sense: {}", record.name,
                    usable.error().message);
    }
    record.usable.reset();
    record.complaint = usable.error().message;
    ++record.rejected;
  }
  record.said = said;
  RequestCounters* const counters = requests_of(record);
  if (counters != nullptr && said.round_trip)
    counters->stats.observe(
        seconds_of(std::clamp(*said.round_trip, std::chrono::nanoseconds(0), kRoundTripMax)));
  if (const auto contest = entry->other_hands.judge(before, said, record.balloon.actual))
    contested(record, *contest, lines);
  // A balloon that rests where it is wanted is ours, whoever brought it there: a daemon before this one.
  const bool rests =
      entry->previous && entry->previous->actual == said.actual && said.actual == record.target;
  if (rests && record.balloon.driver_ready && !entry->newest(Request::Kind::target).pending)
    entry->other_hands.rests(record.balloon.actual == record.target);
  entry->previous = said;
  std::optional<policy::UseSample> use = use_of(record.usable);
  if (use && before) use->used_before = before->used();
  tell({.kind = GuestChange::Kind::stats,
        .use = use,
        .use_before = before,
        .asked_for = std::exchange(entry->newest(Request::Kind::stats).pending, false),
        .process = record.peer.pid});
}

void Registry::counters(Session session, const BalloonCounters& counters) {
  const MutexLock lock(mutex_);
  if (Entry* entry = by_session(session)) entry->record.counters = counters;
}

void Registry::balloon(Session session, const BalloonState& balloon) {
  log::Later lines;
  const MutexLock lock(mutex_);
  Entry* entry = by_session(session);
  if (entry == nullptr) return;
  GuestRecord& record = entry->record;
  const bool was_ready = record.balloon.driver_ready;
  record.balloon = balloon;
  if (clamp_balloon(record.balloon, record.memory)) ++record.rejected;
  // While a request is on its way, the VMM may still speak of the target before it.
  if (!entry->newest(Request::Kind::target).pending) {
    if (record.contest && record.balloon.driver_ready && record.balloon.target == record.contest->from) {
      lines.info(source_of(record.peer), "guest {}: its balloon has our target {} again", record.name,
                 format_bytes(record.balloon.target));
      entry->other_hands.given_back();
      record.contest.reset();
    } else if (const auto contest = entry->other_hands.moved(record.balloon, record.target,
                                                             record.contest.has_value(), clock_)) {
      contested(record, *contest, lines);
    }
    record.target = record.balloon.target;
  }
  if (was_ready && !record.balloon.driver_ready) {  // the guest reboots: its counters start again
    entry->previous.reset();
    record.said.reset();
    record.usable.reset();
    record.complaint.clear();
  }
  const bool appeared = !was_ready && record.balloon.driver_ready;
  if (appeared) record.ready_since = clock_.now();
  tell({.kind = appeared ? GuestChange::Kind::joined : GuestChange::Kind::balloon_moved,
        .process = record.peer.pid});
}

void Registry::contested(GuestRecord& record, const Contest& contest, log::Later& lines) {
  if (!record.contest) {
    lines.warning(source_of(record.peer), "guest {}: somebody else moved its balloon from {} to {}",
                  record.name, format_bytes(contest.from), format_bytes(contest.to));
  }
  const auto before = std::exchange(record.contest, contest);
  if (before) {
    record.contest->since = before->since;
    record.contest->from = before->from;
    record.contest->suspects = before->suspects;
  }
  ++record.contests;
}

void Registry::answered(Session session, Request::Kind kind, std::uint64_t sequence,
                        const std::string& refusal) {
  log::Later lines;
  const MutexLock lock(mutex_);
  Entry* entry = by_session(session);
  if (entry == nullptr) return;
  Outstanding& newest = entry->newest(kind);
  if (!newest.pending || sequence != newest.request.sequence) return;
  if (kind == Request::Kind::stats && refusal.empty()) return;  // the statistics themselves are the answer
  newest.pending = false;
  switch (kind) {
    case Request::Kind::target:
      entry->record.unanswered.reset();
      if (RequestCounters* const counters = requests_of(entry->record))
        counters->targets.observe(seconds_of(clock_.now() - newest.asked_at));
      entry->other_hands.answered(refusal.empty());
      if (!refusal.empty()) target_refused(*entry, refusal, lines);
      break;
    case Request::Kind::stats:
      lines.debug(source_of(entry->record.peer), "guest {}: no fresh statistics: {}", entry->record.name,
                  printable(refusal));
      break;
    case Request::Kind::merging:
      merging_answered(*entry, refusal, lines);
      break;
  }
}

void Registry::target_refused(Entry& entry, const std::string& refusal, log::Later& lines) {
  GuestRecord& record = entry.record;
  ++record.refused;
  if (RequestCounters* const counters = requests_of(record)) ++counters->refused;
  entry.refused_target = record.target;
  entry.refused_at = clock_.now();
  lines.warning(source_of(record.peer), "guest {}: its VMM refused target {}: {}", record.name,
                format_bytes(record.target), printable(refusal));
  record.target = record.balloon.target;
}

void Registry::merging_answered(Entry& entry, const std::string& refusal, log::Later& lines) {
  GuestRecord& record = entry.record;
  const bool wanted = entry.newest(Request::Kind::merging).request.merging;
  record.merging_refusal = printable(refusal);
  if (refusal.empty()) {
    record.merging = wanted;
    lines.info(source_of(record.peer), "guest {}: KSM is {} for its memory", record.name,
               *record.merging ? "on" : "off");
  } else {
    lines.warning(source_of(record.peer), "guest {}: its VMM does not turn KSM {}: {}", record.name,
                  wanted ? "on" : "off", record.merging_refusal);
  }
}

void Registry::left(Session session) {
  log::Later lines;
  const MutexLock lock(mutex_);
  Entry* entry = by_session(session);
  if (entry == nullptr) return;
  GuestRecord& record = entry->record;
  record.connected = false;
  record.unanswered.reset();
  entry->channel.reset();
  for (Outstanding& newest : entry->requests) newest.pending = false;
  record.left_at = clock_.now();
  lines.info(source_of(record.peer), "guest {} left", record.name);
  tell({.kind = GuestChange::Kind::left, .process = record.peer.pid});
}

void Registry::refresh(Bytes host_total) {
  HostProcesses::Sights sights = claims();
  processes_.look(sights, host_total, clock_.now());
  look_for_suspects();
  log::Later lines;
  const MutexLock lock(mutex_);
  const Time now = clock_.now();
  for (auto guest = guests_.begin(); guest != guests_.end();) {
    Entry& entry = guest->second;
    GuestRecord& record = entry.record;
    const auto seen = sights.find(entry.observer);
    if (seen == sights.end()) {  // it has joined meanwhile
      ++guest;
      continue;
    }
    const HostProcesses::Sight& sight = seen->second;
    record.on_host = sight.part_of(record.memory);
    entry.disk_read_seen = sight.disk_read;
    const Credit before = std::exchange(record.credit, sight.credit);
    if (record.credit.halvings > before.halvings) {
      lines.warning(source_of(record.peer),
                    "guest {}: process {} cannot have what its guests claim together, {}: it counts {}, {} "
                    "times halved",
                    record.name, record.peer.pid, format_bytes(sight.memory),
                    format_bytes(record.credit.counted(record.memory)), record.credit.halvings);
    }
    const Outstanding& target = entry.newest(Request::Kind::target);
    if (target.pending && !record.unanswered && now - target.waiting_since >= kAnswerMax) {
      record.unanswered = target.waiting_since;
      lines.warning(source_of(record.peer), "guest {}: its VMM has not answered a target for {} s: {}",
                    record.name, kAnswerMax / std::chrono::seconds(1), format_bytes(record.target));
    }
    if (record.pin && now >= record.pin->expires) {
      lines.info(source_of(record.peer), "guest {}: its pin at {} has run out", record.name,
                 format_bytes(record.pin->target));
      record.pin.reset();
    }
    if (!record.connected && is_gone(entry, sight.on_host.has_value())) {
      lines.info(source_of(record.peer), "guest {} is gone", record.name);
      if (record.pin) awaited_pins_.insert_or_assign(record.name, *record.pin);
      names_.erase(record.session);
      guest = guests_.erase(guest);
      continue;
    }
    ++guest;
  }
  std::erase_if(awaited_pins_, [now](const auto& pin) { return pin.second.expires <= now; });
}

/// What guests claim of their processes, which are to be looked at.
HostProcesses::Sights Registry::claims() const {
  HostProcesses::Sights sights;
  const MutexLock lock(mutex_);
  for (const auto& [name, entry] : guests_) {
    HostProcesses::Sight& sight = sights[entry.observer];
    sight.memory += std::min(entry.record.memory, Bytes::max() - sight.memory);
    ++sight.guests;
    if (!entry.counts_reads) sight.reads_are_counted = false;
  }
  return sights;
}

/// Once for each contest: all processes' names are read.
void Registry::look_for_suspects() {
  const auto unknown = [](const auto& guest) {
    return guest.second.record.contest && !guest.second.record.contest->suspects;
  };
  {
    const MutexLock lock(mutex_);
    if (std::ranges::none_of(guests_, unknown)) return;
  }
  std::string suspects;
  for (const OtherController& other : other_controllers(root_)) {
    if (!other.moves_balloons) continue;
    suspects += fmt::format("{}{} (process {})", suspects.empty() ? "" : ", ", other.name, other.pid);
  }
  const MutexLock lock(mutex_);
  for (auto& guest : guests_) {
    if (unknown(guest)) guest.second.record.contest->suspects = suspects;
  }
}

std::vector<GuestRecord> Registry::list() const {
  const MutexLock lock(mutex_);
  std::vector<GuestRecord> records;
  records.reserve(guests_.size());
  for (const auto& [name, entry] : guests_) records.push_back(entry.record);
  return records;
}

std::optional<GuestRecord> Registry::find(const std::string& name) const {
  const MutexLock lock(mutex_);
  const auto guest = guests_.find(name);
  if (guest == guests_.end()) return std::nullopt;
  return guest->second.record;
}

bool Registry::set_target(const std::string& name, Session session, Bytes target) {
  const MutexLock lock(mutex_);
  Entry* entry = by_session(session);
  if (entry == nullptr || entry->record.name != name || !entry->channel) return false;
  target = in_steps(target, entry->record);
  const GuestRecord& record = entry->record;
  if (record.target == target || entry->other_hands.bar(target, record.balloon.actual, clock_.now()))
    return false;
  if (entry->refused_target == target && clock_.now() - entry->refused_at < kRefusalPause) return false;
  entry->refused_target.reset();
  entry->other_hands = {};
  entry->record.contest.reset();
  entry->record.target = target;
  entry->ask({.kind = Request::Kind::target, .target = target}, clock_.now());
  return true;
}

std::optional<GuestRecord> Registry::set_pin(const std::string& name, Bytes target,
                                             std::chrono::nanoseconds duration) {
  const MutexLock lock(mutex_);
  const auto guest = guests_.find(name);
  if (guest == guests_.end()) return std::nullopt;
  guest->second.record.pin =
      PinRecord{.target = target,
                .expires = clock_.now() + duration,
                .until = clock_.wall() + std::chrono::duration_cast<WallTime::duration>(duration)};
  guest->second.record.contest.reset();  // a person decided since
  tell({.kind = GuestChange::Kind::pin});
  return guest->second.record;
}

std::optional<GuestRecord> Registry::clear_pin(const std::string& name) {
  const MutexLock lock(mutex_);
  const auto guest = guests_.find(name);
  if (guest == guests_.end()) return std::nullopt;
  guest->second.record.pin.reset();
  tell({.kind = GuestChange::Kind::pin});
  return guest->second.record;
}

void Registry::undo_pin(const std::string& name, const std::optional<PinRecord>& mine,
                        const std::optional<PinRecord>& before) {
  const MutexLock lock(mutex_);
  const auto guest = guests_.find(name);
  if (guest == guests_.end() || guest->second.record.pin != mine) return;
  guest->second.record.pin = before;
  tell({.kind = GuestChange::Kind::pin});
}

void Registry::await_pins(std::map<std::string, PinRecord> pins) {
  const MutexLock lock(mutex_);
  awaited_pins_ = std::move(pins);
}

std::map<std::string, PinRecord> Registry::all_pins() const {
  const MutexLock lock(mutex_);
  std::map<std::string, PinRecord> pins = awaited_pins_;
  for (const auto& [name, entry] : guests_) {
    if (entry.record.pin) pins.insert_or_assign(name, *entry.record.pin);
  }
  const Time now = clock_.now();
  std::erase_if(pins, [now](const auto& pin) { return pin.second.expires <= now; });
  return pins;
}

std::map<std::string, Bytes> Registry::pins() const {
  const MutexLock lock(mutex_);
  std::map<std::string, Bytes> pins;
  for (const auto& [name, entry] : guests_) {
    const GuestRecord& record = entry.record;
    if (record.pin) pins.emplace(name, record.credit.counted(record.pin->target));
  }
  return pins;
}

int Registry::request_fresh_stats(std::chrono::nanoseconds age) {
  const MutexLock lock(mutex_);
  const Time now = clock_.now();
  int asked = 0;
  for (auto& [name, entry] : guests_) {
    const GuestRecord& record = entry.record;
    const bool fresh = record.usable && now - record.usable->sampled_at <= age;
    if (!entry.channel || !record.can.on_demand || !record.balloon.has_stats || fresh ||
        entry.newest(Request::Kind::stats).pending)
      continue;
    entry.ask({.kind = Request::Kind::stats}, now);
    ++asked;
  }
  return asked;
}

std::optional<GuestRecord> Registry::set_merging(const std::string& name, bool merging) {
  const MutexLock lock(mutex_);
  const auto guest = guests_.find(name);
  if (guest == guests_.end() || !guest->second.channel) return std::nullopt;
  guest->second.ask({.kind = Request::Kind::merging, .merging = merging}, clock_.now());
  return guest->second.record;
}

bool Registry::keep_from_merging(const std::string& name, Session session) {
  const MutexLock lock(mutex_);
  Entry* entry = by_session(session);
  if (entry == nullptr || entry->record.name != name || !entry->channel || !entry->record.can.ksm_switch)
    return false;
  const Outstanding& newest = entry->newest(Request::Kind::merging);
  const bool under_way = newest.pending && !newest.request.merging;
  if (under_way || (!newest.pending && entry->record.merging == false)) return false;
  const Time now = clock_.now();
  if (entry->merging_kept_at && now - *entry->merging_kept_at < kRefusalPause) return false;
  entry->merging_kept_at = now;
  entry->ask({.kind = Request::Kind::merging, .merging = false}, now);
  return true;
}

/// Numbers it, and sends it.
void Registry::Entry::ask(Request request, Time now) {
  Outstanding& outstanding = newest(request.kind);
  request.sequence = outstanding.request.sequence + 1;
  outstanding = {.request = request,
                 .pending = true,
                 .asked_at = now,
                 .waiting_since = outstanding.pending ? outstanding.waiting_since : now};
  channel->ask(request);
}

void Registry::set_stats_interval(std::chrono::nanoseconds interval) {
  const MutexLock lock(mutex_);
  if (interval == stats_interval_) return;
  stats_interval_ = interval;
  for (auto& [name, entry] : guests_) {
    if (entry.channel) entry.channel->set_stats_interval(interval);
  }
}

std::chrono::nanoseconds Registry::stats_interval() const {
  const MutexLock lock(mutex_);
  return stats_interval_;
}

Registry::Entry* Registry::by_session(Session session) {
  const auto name = names_.find(session);
  return name == names_.end() ? nullptr : &guests_.at(name->second);
}

RequestCounters* Registry::requests_of(const GuestRecord& guest) {
  const auto backend = std::ranges::find(kBackends, guest.hypervisor) - kBackends.begin();
  return static_cast<std::size_t>(backend) < kBackends.size()
             ? &requests_.at(static_cast<std::size_t>(backend))
             : nullptr;
}

/// Two backends may see one guest, which counts once: for the first, until that no longer sees it. They know
/// it by its process, or by its UUID where one of them does not see the process.
const GuestRecord* Registry::managed_by_another(const GuestRecord& guest) const {
  const auto uuid = guest.labels.find("uuid");
  for (const auto& [name, entry] : guests_) {
    const GuestRecord& other = entry.record;
    if (other.hypervisor == guest.hypervisor) continue;
    if (guest.peer.pid != 0 && other.peer.pid == guest.peer.pid) return &other;
    if (uuid == guest.labels.end()) continue;
    const auto of_other = other.labels.find("uuid");
    if (of_other != other.labels.end() && of_other->second == uuid->second) return &other;
  }
  return nullptr;
}

/// Its VMM or its backend no longer speaks of it, and this one does.
void Registry::take_over(GuestRecord& guest, const GuestRecord& before) {
  guest.pin = before.pin;
  guest.contest = before.contest;
  guest.contests = before.contests;
  names_.erase(before.session);
  guests_.erase(guests_.find(before.name));
}

void Registry::tell(const GuestChange& change) const {
  if (listener_) listener_(change);
}

bool Registry::is_gone(const Entry& entry, bool alive) const {
  if (entry.record.peer.pid != 0) return !alive;
  return clock_.now() - entry.record.left_at >= kUnknownProcessGrace;
}

/// The last stay of the guest `name`, if its VMM has left and its process is gone.
std::optional<Session> Registry::ended_stay(const std::string& name) const {
  std::shared_ptr<VmmObserver> observer;
  {
    const MutexLock lock(mutex_);
    const auto known = guests_.find(name);
    if (known == guests_.end() || known->second.record.connected) return std::nullopt;
    observer = known->second.observer;
  }
  const bool alive = observer->alive();
  const MutexLock lock(mutex_);
  const auto known = guests_.find(name);
  if (known == guests_.end() || known->second.observer != observer) return std::nullopt;
  if (!is_gone(known->second, alive)) return std::nullopt;
  return known->second.record.session;
}

}  // namespace balloon::daemon
