// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/libvirt/host.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <set>
#include <utility>

#include "balloond/guests/libvirt/process_of.h"
#include "balloond/guests/sanitize.h"

namespace balloon::daemon::libvirt {
namespace {

/// libvirtd answers for a thousand domains in well under a second. One whose QEMU does not answer holds it up
/// for ever; the next call does not wait for that domain, as it is known to be held.
constexpr std::chrono::nanoseconds kCallMax = std::chrono::seconds(5);
/// Domains that can be told something at the same time. libvirtd serves five calls of one client at once
/// (libvirtd.conf, max_client_requests).
constexpr std::size_t kHands = 4;
/// Calls that were given up and have not returned. Each holds one of libvirtd's 20 workers (max_workers).
constexpr std::size_t kGivenUpMax = 8;
/// Whether domains are migrated or saved is asked for each of them, this often.
constexpr std::chrono::nanoseconds kJobsPeriod = std::chrono::seconds(10);
/// However many events come, looks begin no sooner after each other.
constexpr std::chrono::nanoseconds kLookPause = std::chrono::milliseconds(100);
/// A libvirtd that cannot be reached is tried again after the first, then after twice as long each time.
constexpr std::chrono::nanoseconds kRetryFirst = std::chrono::milliseconds(250);
constexpr std::chrono::nanoseconds kRetryMax = std::chrono::seconds(8);

using LinkPlace = std::shared_ptr<std::unique_ptr<Link>>;

/// Opens the connection if there is none that works.
Result<Link*> use(const std::string& uri, const LinkPlace& link, const Link::OnEvent& on_event) {
  if (*link && !(*link)->alive()) link->reset();
  if (!*link) {
    auto opened = Link::open(uri, on_event);
    if (!opened) return std::unexpected(opened.error());
    *link = std::move(*opened);
  }
  return link->get();
}

Bytes least_of(const Link& link, const std::string& uuid) {
  const auto xml = link.describe_next_start(uuid);
  if (!xml || !*xml) return Bytes{0};
  const auto description = read_description(**xml);
  return description && description->current < description->memory ? description->current : Bytes{0};
}

Look look_at(Link& link, const std::string& uri, const std::set<std::string>& known, bool with_jobs) {
  const auto asked = std::chrono::steady_clock::now();
  Look look{.figures = link.look()};
  if (!look.figures) return look;
  const std::chrono::nanoseconds took = std::chrono::steady_clock::now() - asked;
  for (Figures& figures : *look.figures) figures.sample.round_trip = took;
  look.version = link.version();
  for (const Figures& figures : *look.figures) {
    if (!known.contains(figures.uuid)) {
      const Peer peer = process_of(uri, figures.name, figures.uuid);
      if (peer.pid == 0 && figures.starting) continue;  // it joins with its process
      const auto xml = link.describe(figures.uuid);
      if (!xml) continue;  // it has gone meanwhile
      auto description = read_description(*xml);
      if (!description) continue;
      description->least = least_of(link, figures.uuid);
      look.newcomers.emplace(figures.uuid, Look::Newcomer{.description = *description, .peer = peer});
    }
    // Of a domain that another call holds libvirt would wait for that call.
    if (!with_jobs || !figures.asked) continue;
    if (const auto job = link.has_job(figures.uuid)) look.jobs.emplace(figures.uuid, *job);
  }
  look.lack = link.lack();
  return look;
}

std::string carry_out(Link& link, const Errand& errand) {
  if (errand.kind == Errand::Kind::period) {
    const auto done = link.set_period(errand.uuid, errand.period);
    return done ? std::string() : done.error().message;
  }
  // libvirt would wait 30 s for a job of its own to end.
  if (const auto job = link.has_job(errand.uuid); job && *job)
    return "libvirt migrates, saves, dumps or backs it up";
  const auto done = link.set_target(errand.uuid, errand.target);
  return done ? std::string() : done.error().message;
}

}  // namespace

Host::Host(const Surroundings& surroundings, std::string uri)
    : surroundings_(surroundings),
      uri_(std::move(uri)),
      source_{fmt::format("libvirt {}", uri_)},
      inbox_(std::make_shared<Inbox>(surroundings.wake)),
      looker_(open_line()),
      due_(surroundings.clock.now()),
      retry_(kRetryFirst) {
  for (std::size_t i = 0; i < kHands; ++i) hands_.push_back(open_line());
}

Host::~Host() {
  close(looker_);
  for (Line& hand : hands_) close(hand);
}

Host::Line Host::open_line() const {
  Line line;
  line.caller = std::make_unique<Caller>();
  line.link = std::make_shared<std::unique_ptr<Link>>();
  return line;
}

/// Closing a connection asks libvirtd, too: that is the caller's work, after what it is at. While it is at
/// something the link is its own, and not to be looked at.
void Host::close(Line& line) const {
  if (line.caller->busy() || *line.link) line.caller->call([link = line.link] { link->reset(); });
}

void Host::give_up(Line& line) {
  std::erase_if(given_up_, [](const auto& trace) { return trace.expired(); });
  line.errand.reset();
  line.stuck = given_up_.size() >= kGivenUpMax;
  if (line.stuck)
    return failed(
        fmt::format("{} calls to it have not returned: no more are made until one does", kGivenUpMax));
  given_up_.push_back(line.caller->trace());
  line = open_line();
}

Time Host::due() const {
  Time due = looking_ ? looker_.begun + kCallMax : std::max(due_, looker_.begun + kLookPause);
  for (const Line& hand : hands_) {
    if (hand.errand) due = std::min(due, hand.begun + kCallMax);
  }
  return due;
}

void Host::run() {
  for (News& news : inbox_->take()) std::visit([this](const auto& each) { take(each); }, news);
  for (const auto& [uuid, domain] : domains_) domain->on_mail();
  check_time();
  if (!looking_ && surroundings_.clock.now() >= std::max(due_, looker_.begun + kLookPause)) begin_look();
  begin_errands();
}

void Host::check_time() {
  const Time now = surroundings_.clock.now();
  if (looking_ && now - looker_.begun >= kCallMax) {
    if (!looker_.stuck) failed("it did not answer within 5 s");
    give_up(looker_);
    looker_.begun = now;
    looking_ = looker_.stuck;
    due_ = now;
  }
  for (Line& hand : hands_) {
    if (hand.stuck) hand.stuck = hand.caller->busy();
    if (!hand.errand || now - hand.begun < kCallMax) continue;
    const Errand errand = *hand.errand;
    give_up(hand);
    tell(errand, "libvirt did not carry it out within 5 s");
  }
}

void Host::begin_look() {
  const Time now = surroundings_.clock.now();
  const bool with_jobs = now - jobs_looked_at_ >= kJobsPeriod;
  if (with_jobs) jobs_looked_at_ = now;
  std::set<std::string> known;
  for (const auto& [uuid, domain] : domains_) known.insert(uuid);
  looker_.begun = now;
  looking_ = true;
  looker_.caller->call([uri = uri_, inbox = inbox_, link = looker_.link, known = std::move(known), with_jobs,
                        number = ++look_] {
    const auto used = use(uri, link, [inbox](const Link::Event& event) { inbox->put(event); });
    Look look =
        used ? look_at(**used, uri, known, with_jobs) : Look{.figures = std::unexpected(used.error())};
    if (!look.figures) link->reset();
    look.number = number;
    inbox->put(std::move(look));
  });
  due_ = now + surroundings_.stats_interval;
}

void Host::begin_errands() {
  auto domain = domains_.begin();
  for (Line& hand : hands_) {
    if (hand.errand || hand.stuck) continue;
    std::optional<Errand> errand;
    while (!errand && domain != domains_.end()) errand = (domain++)->second->take_errand();
    if (!errand) return;
    errand->number = ++errands_;
    hand.errand = errand;
    hand.begun = surroundings_.clock.now();
    hand.caller->call([uri = uri_, inbox = inbox_, link = hand.link, errand = *errand] {
      const auto used = use(uri, link, {});
      inbox->put(
          ErrandDone{.errand = errand, .refusal = used ? carry_out(**used, errand) : used.error().message});
    });
  }
}

void Host::take(const Look& look) {
  if (look.number != look_) return;  // it was given up
  looking_ = false;
  looker_.stuck = false;
  if (!look.figures) {
    domains_.clear();
    failed(look.figures.error().message);
    due_ = surroundings_.clock.now() + retry_;
    retry_ = std::min(2 * retry_, kRetryMax);
    return;
  }
  retry_ = kRetryFirst;
  complaint_.clear();
  looked_ = true;
  if (look.lack != lack_) {
    lack_ = look.lack;
    if (!lack_.empty()) log::warning(source_, "libvirt {}: {}", uri_, printable(lack_));
  }
  std::set<std::string> seen;
  for (const Figures& figures : *look.figures) {
    seen.insert(figures.uuid);
    auto domain = domains_.find(figures.uuid);
    if (domain == domains_.end()) {
      const auto newcomer = look.newcomers.find(figures.uuid);
      if (newcomer == look.newcomers.end()) continue;
      domain = domains_
                   .emplace(figures.uuid,
                            std::make_unique<Domain>(surroundings_, uri_, look.version,
                                                     newcomer->second.description, newcomer->second.peer))
                   .first;
    }
    if (const auto job = look.jobs.find(figures.uuid); job != look.jobs.end())
      domain->second->note_job(job->second);
    domain->second->see(figures, looker_.begun);
  }
  std::erase_if(domains_, [&](const auto& domain) { return !seen.contains(domain.first); });
}

void Host::take(const ErrandDone& done) {
  for (Line& hand : hands_) {
    if (!hand.errand || hand.errand->number != done.errand.number) continue;
    hand.errand.reset();
    return tell(done.errand, done.refusal);
  }
}

void Host::tell(const Errand& errand, const std::string& refusal) {
  if (const auto domain = domains_.find(errand.uuid); domain != domains_.end())
    domain->second->done(errand, refusal);
}

void Host::take(const Link::Event& event) {
  if (event.rebooted) {
    if (const auto domain = domains_.find(event.uuid); domain != domains_.end())
      domain->second->note_reboot();
  }
  due_ = surroundings_.clock.now();
}

void Host::failed(const std::string& complaint) {
  ++surroundings_.health.errors;
  if (complaint == complaint_) return;
  complaint_ = complaint;
  log::warning(source_, "libvirt {}: {}", uri_, printable(complaint));
}

}  // namespace balloon::daemon::libvirt
