// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/libvirt/domain.h"

#include <fmt/format.h>
#include <libvirt/libvirt.h>

#include <algorithm>
#include <utility>

#include "balloond/guests/sanitize.h"
#include "base/bytes.h"
#include "base/pages.h"
#include "policy/rules/size_rule.h"
#include "policy/rules/values.h"

namespace balloon::daemon::libvirt {
namespace {

/// Statistics that are overdue for this long are not polled for: somebody changed the interval, or nobody set
/// one.
constexpr int kOverduePeriods = 3;
constexpr std::chrono::nanoseconds kPeriodPause = std::chrono::seconds(10);
/// libvirt knows a balloon's size by QEMU's events, of which there is one a second: right after a target is
/// set it may still say the size from before.
constexpr std::chrono::nanoseconds kEventPause = std::chrono::milliseconds(1500);

std::string_view name_of(int state) {
  switch (state) {
    case VIR_DOMAIN_BLOCKED:
      return "blocked";
    case VIR_DOMAIN_PAUSED:
      return "paused";
    case VIR_DOMAIN_SHUTDOWN:
      return "shutting down";
    case VIR_DOMAIN_SHUTOFF:
      return "shut off";
    case VIR_DOMAIN_CRASHED:
      return "crashed";
    case VIR_DOMAIN_PMSUSPENDED:
      return "suspended by the guest";
    default:
      return "in no state that is known";
  }
}

}  // namespace

Domain::Domain(const Surroundings& surroundings, std::string uri, std::string version,
               Description description, const Peer& peer)
    : surroundings_(surroundings),
      uri_(std::move(uri)),
      version_(std::move(version)),
      description_(std::move(description)),
      peer_(peer),
      stats_interval_(surroundings.stats_interval),
      period_(description_.period) {}

Domain::~Domain() {
  if (guest_) surroundings_.guests.left(*guest_);
}

Bytes Domain::memory() const { return figures_.maximum.value_or(description_.memory); }

/// Who sends statistics has a driver; the ones from before a reboot are no sign of one.
bool Domain::driver_ready() const {
  return description_.has_balloon && figures_.updated_at &&
         (!rebooted_at_ || *figures_.updated_at > *rebooted_at_);
}

/// All memory while no driver holds a balloon, whatever libvirt still says.
Bytes Domain::actual() const {
  if (!driver_ready()) return memory();
  return std::min(figures_.actual.value_or(memory()), memory());
}

std::string Domain::obstacle() const {
  if (!description_.has_balloon) return "it has no balloon device";
  if (!figures_.actual)
    return "libvirt does not tell the size of its balloon: it, or its driver, may be too old";
  if (!description_.interlock.empty()) return description_.interlock;
  if (const std::string_view held = held_.why(); !held.empty()) return std::string(held);
  if (has_job_) return "libvirt migrates, saves, dumps or backs it up";
  if (figures_.state == VIR_DOMAIN_RUNNING || figures_.state == VIR_DOMAIN_BLOCKED) return {};
  return fmt::format("it does not run: {}", name_of(figures_.state));
}

BalloonState Domain::balloon() const {
  const Bytes now = actual();
  const bool ready = driver_ready();
  return {.actual = now,
          .target = std::min(ours_.target().value_or(now), memory()),
          .driver_ready = ready,
          .has_stats = ready,
          .deflate_on_oom = description_.deflate_on_oom,
          .free_page_reporting = description_.free_page_reporting,
          .free_page_hinting = false,
          .obstacle = obstacle()};
}

void Domain::see(const Figures& figures, Time looked) {
  // What only QEMU knows is as it was while libvirt could not ask it.
  const auto updated_at = figures.asked ? figures.updated_at : figures_.updated_at;
  const Bytes memory_before = guest_ ? memory() : Bytes{0};
  figures_ = figures;
  figures_.updated_at = updated_at;
  if (guest_ && memory() != memory_before) {  // memory was plugged in or out
    surroundings_.guests.left(*std::exchange(guest_, {}));
    mailbox_.reset();
  }
  // A device of the host may have been plugged in since it was described.
  if (const auto process = Process("", peer_.pid).sample()) held_.see(*process, memory());
  if (!guest_) join();
  if (!guest_) return;
  const Bytes now = actual();
  const bool moved = last_actual_ && *last_actual_ != now;
  last_actual_ = now;
  note_other_hands(looked);
  if (const BalloonState state = balloon(); state != told_) {
    told_ = state;
    surroundings_.guests.balloon(*guest_, state);
  }
  report_sample(moved);
}

/// A balloon that leaves our target or the way there was moved by somebody else.
void Domain::note_other_hands(Time looked) {
  if (waiting_ || errand_under_way_ || !obstacle().empty()) return;
  const bool settled = !asked_at_ || looked - *asked_at_ >= kEventPause;
  const bool sampled = figures_.asked && figures_.updated_at && figures_.updated_at != sampled_;
  if (!ours_.moved_by_another(actual(), driver_ready(), settled) && sampled)
    ours_.stopped_by_another(figures_.sample.free);
}

void Domain::join() {
  Registration guest;
  guest.name = guest_name_of(figures_.name);
  guest.hypervisor = "libvirt";
  guest.version = version_;
  for (const auto& [key, value] : description_.labels) guest.labels[key] = printable(value);
  guest.labels["uuid"] = figures_.uuid;
  guest.labels["libvirt"] = printable(uri_);
  if (description_.least > Bytes{0})
    guest.labels[policy::rules::kMinLabel] = policy::rules::exact_bytes(description_.least);
  guest.memory = memory();
  guest.vcpus = figures_.vcpus != 0 ? figures_.vcpus : description_.vcpus;
  guest.balloon = balloon();
  guest.merging = description_.merging;
  guest.can = {.statistics = description_.has_balloon, .events = true, .reporting = true, .disk_reads = true};
  auto mailbox = std::make_shared<Mailbox>(surroundings_.wake);
  const auto joined = surroundings_.guests.joined(guest, peer_, mailbox);
  if (!joined) return complain(joined.error().reason);
  complaint_.clear();
  guest_ = *joined;
  mailbox_ = std::move(mailbox);
  told_ = *guest.balloon;
  ours_.forget();
  waiting_.reset();
  last_actual_.reset();
  sampled_.reset();
  sampled_at_ = surroundings_.clock.now();
}

/// Statistics go on with the size that the guest had when it sent them, or not at all: with another one
/// policy would take its memory for unused, or for used up.
void Domain::report_sample(bool moved) {
  if (!figures_.asked || !figures_.updated_at || figures_.updated_at == sampled_ || !driver_ready()) return;
  sampled_ = figures_.updated_at;
  sampled_at_ = surroundings_.clock.now();
  if (moved) return;
  const WallTime second{*sampled_};
  StatsSample sample = figures_.sample;
  sample.sampled_at =
      std::clamp<WallTime>(surroundings_.clock.wall(), second, second + std::chrono::milliseconds(999));
  sample.actual = actual();
  surroundings_.guests.stats(*guest_, sample);
}

void Domain::note_reboot() {
  rebooted_at_ = std::chrono::floor<std::chrono::seconds>(surroundings_.clock.wall().time_since_epoch());
}

void Domain::on_mail() {
  if (!mailbox_) return;
  if (const auto interval = mailbox_->take_interval()) {
    stats_interval_ = *interval;
    period_asked_at_.reset();
  }
  for (auto& request : mailbox_->take_requests()) {
    if (!request) continue;
    switch (request->kind) {
      case Request::Kind::target:
        waiting_ = request;
        break;
      case Request::Kind::stats:
        surroundings_.guests.answered(*guest_, request->kind, request->sequence,
                                      "libvirt cannot ask a guest on demand");
        break;
      case Request::Kind::merging:
        surroundings_.guests.answered(*guest_, request->kind, request->sequence,
                                      "libvirt cannot switch KSM for a guest that runs");
        break;
    }
  }
}

void Domain::refuse_target(const std::string& reason) {
  const Request request = *std::exchange(waiting_, {});
  surroundings_.guests.answered(*guest_, Request::Kind::target, request.sequence, reason);
}

std::optional<Errand> Domain::take_errand() {
  if (!guest_ || errand_under_way_) return std::nullopt;
  const Time now = surroundings_.clock.now();
  if (waiting_) {
    if (const std::string reason = obstacle(); !reason.empty()) {
      refuse_target(reason);
    } else if (!figures_.asked) {
      refuse_target("another call to libvirt holds it");
    } else {
      const Request request = *std::exchange(waiting_, {});
      errand_under_way_ = true;
      return Errand{.kind = Errand::Kind::target,
                    .uuid = figures_.uuid,
                    .sequence = request.sequence,
                    .target = std::min(pages_to_hold(request.target), memory())};
    }
  }
  const auto wanted =
      std::max(std::chrono::seconds(1), std::chrono::ceil<std::chrono::seconds>(stats_interval_));
  const bool too_seldom =
      period_.count() == 0 || period_ > wanted || now - sampled_at_ > kOverduePeriods * wanted;
  const bool asked_lately = period_asked_at_ && now - *period_asked_at_ < kPeriodPause;
  if (!too_seldom || asked_lately || !figures_.asked || !obstacle().empty()) return std::nullopt;
  period_asked_at_ = now;
  period_ = wanted;
  errand_under_way_ = true;
  return Errand{.kind = Errand::Kind::period, .uuid = figures_.uuid, .period = wanted};
}

void Domain::done(const Errand& errand, const std::string& refusal) {
  errand_under_way_ = false;
  if (!guest_) return;
  if (errand.kind == Errand::Kind::period) {
    if (!refusal.empty()) complain(fmt::format("the interval of its statistics: {}", refusal));
    return;
  }
  if (refusal.empty()) {
    ours_.asked(errand.target, actual());
    asked_at_ = surroundings_.clock.now();
  }
  surroundings_.guests.answered(*guest_, Request::Kind::target, errand.sequence, refusal);
}

void Domain::complain(const std::string& complaint) {
  if (complaint == complaint_) return;
  complaint_ = complaint;
  log::warning(log::Source{fmt::format("libvirt {}", uri_)}, "libvirt {}: domain {}: {}", uri_,
               printable(figures_.name), printable(complaint));
}

}  // namespace balloon::daemon::libvirt
