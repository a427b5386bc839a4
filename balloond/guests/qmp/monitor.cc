// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/qmp/monitor.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <utility>

#include "balloond/guests/proxmox/configuration.h"
#include "balloond/guests/sanitize.h"
#include "base/bytes.h"

namespace balloon::daemon::qmp {
namespace {

/// Read at once from one socket before the others' turn.
constexpr std::size_t kReadMax = 64 << 10;
/// A target that cannot be sent for this long is refused, so that what policy believes stays true.
constexpr std::chrono::nanoseconds kTargetPatience = std::chrono::seconds(10);

}  // namespace

Monitor::Monitor(const Surroundings& surroundings, std::string path, Use use)
    : surroundings_(surroundings),
      path_(std::move(path)),
      use_(std::move(use)),
      exclusive_(use_.exclusive),
      source_{fmt::format("QMP socket {}", path_)},
      stats_interval_(surroundings.stats_interval),
      due_(surroundings.clock.now()) {}

Monitor::~Monitor() { leave(); }

Time Monitor::due() const {
  if (!session_) return due_;
  Time due = Time::max();
  if (stage_ == Stage::rest && session_->idle()) due = due_;
  if (const auto deadline = session_->deadline()) due = std::min(due, *deadline);
  if (give_back_at_) due = std::min(due, *give_back_at_);
  return due;
}

void Monitor::on_time() {
  const Time now = surroundings_.clock.now();
  if (waiting_ && now - waiting_since_ >= kTargetPatience) refuse_target("its QMP socket is busy");
  if (!session_) {
    if (now >= due_) open();
    return;
  }
  if (const auto on_time = session_->check(now); !on_time) {
    // Who does not greet serves another client; the guest is as it was. Who fell silent may hang.
    return failed(on_time.error().message, session_->greeted() && exclusive_);
  }
  if (give_back_at_ && now >= *give_back_at_) {
    report();
    return failed(fmt::format("it took more than {} ms to answer, and others use it, too",
                              std::chrono::duration_cast<std::chrono::milliseconds>(kSharedHold).count()),
                  false);
  }
  if (stage_ == Stage::rest && session_->idle() && now >= due_) next_stage();
}

void Monitor::on_new_socket() {
  if (session_) return;
  retry_ = kRetryFirst;
  due_ = surroundings_.clock.now();
}

void Monitor::on_mail() {
  if (!mailbox_) return;
  const Time now = surroundings_.clock.now();
  if (const auto interval = mailbox_->take_interval()) {
    stats_interval_ = *interval;
    dialogue_->set_interval(polling_interval());
    asked_all_at_ = {};
  }
  for (auto& request : mailbox_->take_requests()) {
    if (!request) continue;
    switch (request->kind) {
      case Request::Kind::target:
        waiting_ = request;
        waiting_since_ = now;
        break;
      case Request::Kind::stats:
        hurry_until_ = now + kHurryFor;
        break;
      case Request::Kind::merging:
        surroundings_.guests.answered(*guest_, request->kind, request->sequence,
                                      "balloond does not switch KSM for guests of QEMU");
        break;
    }
  }
  if (session_) return send_target();
  if (waiting_ || hurried(now)) due_ = std::min(due_, std::max(now, taken_at_ + kSharedPeriod));
}

void Monitor::open() {
  const Time now = surroundings_.clock.now();
  auto connection = connect_to(path_);
  if (!connection)
    return failed(connection.error().reason, connection.error().kind == ConnectFailure::Kind::gone);
  taken_at_ = now;
  if (connection->peer.pid != peer_.pid) leave();
  peer_ = connection->peer;
  connection_ = std::move(*connection);
  session_.emplace(now);
  if (!dialogue_) dialogue_.emplace(polling_interval(), /*shared=*/!exclusive_);
  asked_figures_ = false;
  if (!dialogue_->identified()) {
    stage_ = Stage::identity;
    ask(dialogue_->identity_questions());
  } else {
    next_stage();
  }
}

void Monitor::next_stage() {
  const Time now = surroundings_.clock.now();
  switch (stage_) {
    case Stage::identity:
      if (!dialogue_->identified()) return failed("it does not say whose guest it has", true);
      [[fallthrough]];
    case Stage::rest:
      asks_all_ = !exclusive_ || !asked_figures_ || now - asked_all_at_ >= kSeldomPeriod;
      if (asks_all_) asked_all_at_ = now;
      asked_figures_ = true;
      stage_ = Stage::figures;
      send_target();
      figures_asked_at_ = now;
      return ask(dialogue_->figure_questions(asks_all_));
    case Stage::figures:
      stage_ = Stage::corrections;
      if (asks_all_) ask(dialogue_->corrections());
      if (!session_->idle()) return;
      [[fallthrough]];
    case Stage::corrections:
      stage_ = Stage::rest;
      retry_ = kRetryFirst;
      if (asks_all_) look_at_process();
      report();
      if (!std::exchange(complained_, false)) complaint_.clear();
      schedule_next();
      if (!exclusive_) close(/*guest_is_gone=*/false);
  }
}

void Monitor::look_at_process() {
  if (const auto memory = Process("", peer_.pid).sample()) dialogue_->take(*memory);
}

void Monitor::ask(const std::vector<Command>& commands) {
  for (const Command& command : commands) session_->ask(command, surroundings_.clock.now());
  output_ += session_->take_output();
  write();
}

void Monitor::send_target() {
  if (!waiting_) return;
  if (const std::string obstacle = dialogue_->obstacle(); !obstacle.empty()) return refuse_target(obstacle);
  const Request request = *std::exchange(waiting_, {});
  sent_.push_back({.sequence = request.sequence, .target = granted_target(request.target)});
  ask({target_command(request.target)});
}

void Monitor::refuse_target(const std::string& reason) {
  const Request request = *std::exchange(waiting_, {});
  surroundings_.guests.answered(*guest_, Request::Kind::target, request.sequence, reason);
}

void Monitor::write() {
  while (!output_.empty()) {
    const int socket = connection_->fd.get();
    const ssize_t written = ::send(socket, output_.data(), output_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (written <= 0) return;  // on an error reading fails, too
    output_.erase(0, static_cast<std::size_t>(written));
  }
}

void Monitor::on_readable() {
  if (!connection_) return;
  std::array<char, kReadMax> buffer;
  const ssize_t got = ::recv(connection_->fd.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) return failed("its process closed the connection", true);
  const Time now = surroundings_.clock.now();
  const bool greeted = session_->greeted();
  auto news = session_->receive({buffer.data(), static_cast<std::size_t>(got)}, now);
  if (!news) return failed(news.error().message, true);
  if (!greeted && session_->greeted() && !exclusive_) give_back_at_ = now + kSharedHold;
  for (const News& each : *news) take(each);
  output_ += session_->take_output();
  write();
  if (session_->idle() && stage_ != Stage::rest) next_stage();
}

void Monitor::take(const News& news) {
  if (const auto* event = std::get_if<Event>(&news)) {
    if (const auto taken = dialogue_->take(*event); !taken) complain(taken.error().message);
    if (!guest_ || stage_ != Stage::rest) return;  // in the middle of a round its end tells the daemon
    report();
    const Time now = surroundings_.clock.now();
    if (movement_.moving(now)) due_ = std::min(due_, now + kMovingPeriod);
    return;
  }
  const Answer& answer = std::get<Answer>(news);
  if (answer.question == Question::set_target) return take_target_answer(answer);
  if (answer.question == Question::statistics) stats_took_ = surroundings_.clock.now() - figures_asked_at_;
  if (const auto taken = dialogue_->take(answer); !taken) complain(taken.error().message);
}

void Monitor::take_target_answer(const Answer& answer) {
  if (sent_.empty() || !guest_) return;
  const Sent sent = sent_.front();
  sent_.pop_front();
  if (answer.value) {
    ours_.asked(sent.target, dialogue_->actual());
    sizes_when_asked_ = dialogue_->sizes();
    asked_at_ = surroundings_.clock.now();
    if (exclusive_) due_ = std::min(due_, surroundings_.clock.now() + kMovingPeriod);
  }
  surroundings_.guests.answered(*guest_, Request::Kind::target, sent.sequence,
                                answer.value ? std::string() : answer.value.error().description);
}

void Monitor::report() {
  if (!asked_figures_) return;
  if (guest_ && dialogue_->memory() != joined_memory_) end_stay();  // memory was plugged in or out
  if (!guest_) join();
  if (!guest_) return;
  const Bytes actual = dialogue_->actual();
  const bool moved = movement_.note(actual, surroundings_.clock.now());
  note_other_hands(actual);
  const BalloonState state = dialogue_->balloon(ours_.target().value_or(actual));
  if (state != told_) {
    told_ = state;
    surroundings_.guests.balloon(*guest_, state);
  }
  report_sample(actual, moved);
}

void Monitor::join() {
  if (peer_.pid != 0 && surroundings_.is_managed(peer_.pid, path_))
    return complain(fmt::format("its process {} is managed by another socket", peer_.pid));
  const std::string stem = guest_name_of(std::filesystem::path(path_).stem().string());
  Registration registration = dialogue_->registration(stem);
  registration.version = fmt::format("QEMU {}", session_ ? session_->version() : "");
  registration.labels["socket"] = stem;
  add_limits(stem, registration);
  registration.can = {.statistics = true,
                      .on_demand = !exclusive_,
                      .events = exclusive_,
                      .reporting = true,
                      .disk_reads = true};
  auto mailbox = std::make_shared<Mailbox>(surroundings_.wake);
  auto joined = surroundings_.guests.joined(registration, peer_, mailbox);
  if (!joined && joined.error().kind == JoinRefusal::Kind::already_exists) {
    registration.name =
        guest_name_of(fmt::format("{}.{}", registration.name.substr(0, 31), stem.substr(0, 31)));
    joined = surroundings_.guests.joined(registration, peer_, mailbox);
  }
  if (!joined) return complain(joined.error().reason);
  guest_ = *joined;
  mailbox_ = std::move(mailbox);
  told_ = *registration.balloon;
  joined_memory_ = registration.memory;
  movement_ = {};
  sampled_.reset();
}

/// What Proxmox grants the guest, where its configurations are named.
void Monitor::add_limits(const std::string& stem, Registration& registration) const {
  if (use_.proxmox.empty()) return;
  const std::string file = fmt::format("{}/{}.conf", use_.proxmox, stem);
  const auto guest = proxmox::read_configuration_file(file);
  if (!guest)
    return log::warning(source_, "QMP socket {}: its limits are unknown: {}", path_, guest.error().message);
  registration.labels.merge(proxmox::limits_of(*guest));
}

/// Statistics go on with the size that the guest had when it sent them, or not at all: with another one
/// policy would take its memory for unused, or for used up.
void Monitor::report_sample(Bytes actual, bool moved) {
  const auto& statistics = dialogue_->statistics();
  if (!statistics || !statistics->updated_at || statistics->updated_at == sampled_) return;
  const bool first = !sampled_.has_value();
  sampled_ = statistics->updated_at;
  lively_ = is_lively(actual, statistics->available, std::exchange(available_, statistics->available));
  if (first && movement_.moving(surroundings_.clock.now())) return;
  if (moved && !exclusive_) return;
  if (!told_.driver_ready) return;
  StatsSample sample = sample_of(*statistics, actual, surroundings_.clock.wall());
  sample.disk_read = dialogue_->disk_reads();
  sample.round_trip = stats_took_;
  surroundings_.guests.stats(*guest_, sample);
}

/// A balloon that leaves our target or the way there was moved by somebody else, or gave way to a guest out
/// of memory: what it has is what counts, and the registry judges.
void Monitor::note_other_hands(Bytes actual) {
  if (!sent_.empty() || !dialogue_->obstacle().empty()) return;
  const auto target = ours_.target();
  const auto& statistics = dialogue_->statistics();
  const bool sampled = statistics && statistics->updated_at && statistics->updated_at != sampled_;
  const bool settled = dialogue_->sizes() != sizes_when_asked_;  // else the size is from before
  if (ours_.moved_by_another(actual, dialogue_->balloon(Bytes{0}).driver_ready, settled) ||
      (sampled && ours_.stopped_by_another(statistics->free)))
    log::info(source_, "QMP socket {}: the balloon left its target {} for {}", path_,
              format_bytes(target.value_or(actual)), format_bytes(actual));
}

bool Monitor::hurried(Time now) const {
  if (hurry_until_ && now < *hurry_until_) return true;
  const bool on_its_way = ours_.on_its_way() && now - asked_at_ < kOnItsWay;
  return waiting_ || on_its_way || lively_ || movement_.moving(now);
}

void Monitor::schedule_next() {
  const Time now = surroundings_.clock.now();
  if (exclusive_) {
    due_ = now + (movement_.moving(now) ? std::min(kMovingPeriod, stats_interval_) : stats_interval_);
  } else if (dialogue_->owner_is_at_work()) {
    due_ = taken_at_ + kSharedOwnersPeriod;
  } else {
    due_ = taken_at_ + (hurried(now) ? kSharedPeriod : kSharedRestPeriod);
  }
}

void Monitor::failed(const std::string& complaint, bool guest_is_gone) {
  ++surroundings_.health.errors;
  complain(complaint);
  close(guest_is_gone);
  const Time now = surroundings_.clock.now();
  due_ = now + retry_;
  if (!exclusive_) due_ = std::max(due_, taken_at_ + kSharedPeriod);
  retry_ = std::min(2 * retry_, kRetryMax);
}

void Monitor::complain(const std::string& complaint) {
  complained_ = true;
  if (complaint == complaint_) return;
  complaint_ = complaint;
  log::warning(source_, "QMP socket {}: {}", path_, complaint);
}

void Monitor::close(bool guest_is_gone) {
  for (const Sent& sent : std::exchange(sent_, {})) {
    if (guest_)
      surroundings_.guests.answered(*guest_, Request::Kind::target, sent.sequence,
                                    "its QMP socket was closed");
  }
  session_.reset();
  connection_.reset();
  output_.clear();
  give_back_at_.reset();
  stage_ = Stage::rest;
  if (guest_is_gone) leave();
}

void Monitor::leave() {
  end_stay();
  dialogue_.reset();
}

void Monitor::end_stay() {
  if (guest_) surroundings_.guests.left(*std::exchange(guest_, {}));
  mailbox_.reset();
  waiting_.reset();
  sent_.clear();
  ours_.forget();
}

std::chrono::seconds Monitor::polling_interval() const {
  return std::max(std::chrono::seconds(1), std::chrono::ceil<std::chrono::seconds>(stats_interval_));
}

}  // namespace balloon::daemon::qmp
