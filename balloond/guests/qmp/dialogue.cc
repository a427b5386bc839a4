// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/qmp/dialogue.h"

#include <fmt/format.h>

#include <algorithm>

#include "balloond/guests/sanitize.h"
#include "base/pages.h"

namespace balloon::daemon::qmp {
namespace {

using nlohmann::json;

constexpr const char* kFolders[] = {"/machine/peripheral", "/machine/peripheral-anon", "/machine/unattached",
                                    "/objects"};
/// Of these, those that can have a balloon.
constexpr std::size_t kDeviceFolders = 3;

Command list(Question question, std::size_t folder) {
  return {.question = question, .name = "qom-list", .arguments = {{"path", kFolders[folder]}}};
}

std::size_t folder_of(Question question) {
  return static_cast<std::size_t>(question) - static_cast<std::size_t>(Question::list_peripheral);
}

bool is_list(Question question) {
  return question >= Question::list_peripheral && question <= Question::list_objects;
}

Command query(Question question, const char* name) {
  return {.question = question, .name = name, .arguments = json::object()};
}

const char* subject(Question question) {
  switch (question) {
    case Question::capabilities:
      return "negotiation";
    case Question::name:
      return "its name";
    case Question::uuid:
      return "its UUID";
    case Question::cpus:
      return "its processors";
    case Question::memory_size:
      return "its memory's size";
    case Question::list_peripheral:
    case Question::list_peripheral_anon:
    case Question::list_unattached:
    case Question::list_objects:
      return "its devices";
    case Question::run_state:
      return "whether it runs";
    case Question::migration:
      return "whether it is migrated";
    case Question::jobs:
      return "what is done with it";
    case Question::balloon_size:
      return "its balloon";
    case Question::statistics:
      return "its statistics";
    case Question::polling_interval:
    case Question::set_polling_interval:
      return "the interval of its statistics";
    case Question::driver:
      return "its balloon's driver";
    case Question::disk_reads:
      return "what its disks read";
    case Question::set_target:
      return "its target";
  }
  return "an answer";
}

/// Stores what was read, or hands on why it could not be.
template <typename Value, typename Place>
Result<void> store(Result<Value> read, Place& place) {
  if (!read) return std::unexpected(read.error());
  place = std::move(*read);
  return {};
}

}  // namespace

Command target_command(Bytes target) {
  return {.question = Question::set_target,
          .name = "balloon",
          .arguments = {{"value", granted_target(target).count()}}};
}

Bytes granted_target(Bytes target) { return pages_to_hold(target); }

std::vector<Command> Dialogue::identity_questions() const {
  return {query(Question::name, "query-name"),      query(Question::uuid, "query-uuid"),
          query(Question::cpus, "query-cpus-fast"), query(Question::memory_size, "query-memory-size-summary"),
          list(Question::list_peripheral, 0),       list(Question::list_peripheral_anon, 1),
          list(Question::list_unattached, 2),       list(Question::list_objects, 3)};
}

std::vector<Command> Dialogue::figure_questions(bool all) const {
  std::vector<Command> questions;
  const auto property = [&](Question question, const char* name) {
    questions.push_back({.question = question,
                         .name = "qom-get",
                         .arguments = {{"path", balloon_path_}, {"property", name}}});
  };
  // What matters most comes first: a shared socket is given back when its time is over.
  if (!balloon_path_.empty()) {
    questions.push_back(query(Question::balloon_size, "query-balloon"));
    property(Question::statistics, "guest-stats");
    if (knows_driver_ && (all || !driver_ready())) {
      questions.push_back({.question = Question::driver,
                           .name = "x-query-virtio-status",
                           .arguments = {{"path", balloon_path_ + "/virtio-backend"}}});
    }
  }
  questions.push_back(query(Question::run_state, "query-status"));
  questions.push_back(query(Question::migration, "query-migrate"));
  if (knows_jobs_) questions.push_back(query(Question::jobs, "query-jobs"));
  questions.push_back(query(Question::disk_reads, "query-blockstats"));
  if (!all) return questions;
  if (balloon_path_.empty()) {  // one may be plugged in
    for (std::size_t i = 0; i < kDeviceFolders; ++i)
      questions.push_back(
          list(static_cast<Question>(static_cast<std::size_t>(Question::list_peripheral) + i), i));
  } else {
    property(Question::polling_interval, "guest-stats-polling-interval");
    // Devices of the host come and go, with an id and without.
    questions.push_back(list(Question::list_peripheral, 0));
    questions.push_back(list(Question::list_peripheral_anon, 1));
  }
  questions.push_back(query(Question::memory_size, "query-memory-size-summary"));
  return questions;
}

std::vector<Command> Dialogue::corrections() const {
  if (balloon_path_.empty() || !polling_interval_ || *polling_interval_ == interval_) return {};
  if (shared_ && polling_interval_->count() != 0) return {};
  return {{.question = Question::set_polling_interval,
           .name = "qom-set",
           .arguments = {{"path", balloon_path_},
                         {"property", "guest-stats-polling-interval"},
                         {"value", interval_.count()}}}};
}

Result<void> Dialogue::take(const Answer& answer) {
  auto taken = answer.value ? take_value(answer.question, *answer.value)
                            : take_failure(answer.question, answer.value.error());
  if (!taken) return fail(subject(answer.question), taken.error());
  return {};
}

Result<void> Dialogue::take_value(Question question, const json& value) {
  switch (question) {
    case Question::name:
      return store(read_name(value), name_);
    case Question::uuid:
      return store(read_uuid(value), uuid_);
    case Question::cpus:
      return store(read_cpus(value), vcpus_);
    case Question::memory_size:
      return store(read_memory_size(value), memory_);
    case Question::list_peripheral:
    case Question::list_peripheral_anon:
    case Question::list_unattached:
    case Question::list_objects: {
      ++lists_;
      const auto interlock = find_interlock(value);
      if (!interlock) return std::unexpected(interlock.error());
      interlocks_.at(folder_of(question)) = *interlock;
      if (question == Question::list_objects) return {};
      const auto name = find_balloon(value);
      if (!name) return std::unexpected(name.error());
      if (*name && balloon_path_.empty())
        balloon_path_ = fmt::format("{}/{}", kFolders[folder_of(question)], **name);
      return {};
    }
    case Question::run_state:
      return store(read_run_state(value), run_state_);
    case Question::migration:
      return store(read_migrating(value), migrating_);
    case Question::jobs:
      return store(read_jobs(value), jobs_);
    case Question::balloon_size:
      ++sizes_;
      return store(read_actual(value), actual_);
    case Question::statistics:
      return store(read_statistics(value), statistics_);
    case Question::polling_interval:
      return store(read_polling_interval(value), polling_interval_);
    case Question::set_polling_interval:
      polling_interval_ = interval_;
      return {};
    case Question::driver:
      return store(read_driver(value), driver_);
    case Question::disk_reads:
      return store(read_disk_reads(value), disk_reads_);
    case Question::capabilities:
    case Question::set_target:
      return {};
  }
  return {};
}

Result<void> Dialogue::take_failure(Question question, const Failure& failure) {
  if (question == Question::driver) {  // QEMU before 7.2, or a balloon that is no PCI device
    knows_driver_ = false;
    driver_.reset();
    return {};
  }
  if (question == Question::jobs && failure.error_class == "CommandNotFound") {  // QEMU before 3.0
    knows_jobs_ = false;
    return {};
  }
  if (is_list(question)) {
    ++lists_;
    if (question == Question::list_peripheral) return fail(failure.description);
    return {};  // not every machine has these folders
  }
  if (question == Question::statistics && failure.error_class == "DeviceNotFound") {  // it was unplugged
    balloon_path_.clear();
    actual_.reset();
    statistics_.reset();
    driver_.reset();
    return {};
  }
  if (question == Question::balloon_size && failure.error_class == "DeviceNotActive") {
    actual_.reset();
    return {};
  }
  return fail(failure.description);
}

Result<void> Dialogue::take(const Event& event) {
  if (event.name == "BALLOON_CHANGE") {
    ++sizes_;
    return store(read_actual(event.data), actual_);
  }
  if (event.name == "STOP") run_state_ = {.running = false, .status = "paused"};
  if (event.name == "RESUME") run_state_ = {.running = true, .status = "running"};
  if (event.name == "RESET") {
    if (driver_) driver_->ready = false;
    if (statistics_) updated_at_reset_ = statistics_->updated_at;
  }
  return {};
}

void Dialogue::take(const ProcessMemory& process) { held_.see(process, memory()); }

bool Dialogue::driver_ready() const {
  if (driver_) return driver_->ready;
  // Who sends statistics has a driver; the ones from before a reset are no sign of one.
  return statistics_ && statistics_->updated_at && statistics_->updated_at != updated_at_reset_;
}

Bytes Dialogue::actual() const {
  if (!driver_ready() || !actual_) return memory();
  return std::min(*actual_, memory());
}

BalloonState Dialogue::balloon(Bytes target) const {
  const bool ready = driver_ready();
  return {.actual = actual(),
          .target = std::min(target, memory()),
          .driver_ready = ready,
          .has_stats = ready && (driver_ ? driver_->statistics : true),
          .deflate_on_oom = driver_ && driver_->deflate_on_oom,
          .free_page_reporting = driver_ && driver_->free_page_reporting,
          .free_page_hinting = false,
          .paused = !run_state_.running,
          .obstacle = obstacle()};
}

std::string Dialogue::obstacle() const {
  if (balloon_path_.empty()) return "it has no balloon device";
  if (!actual_) return "QEMU does not say the size of its balloon";
  for (const std::string& interlock : interlocks_) {
    if (!interlock.empty()) return interlock;
  }
  if (const std::string_view held = held_.why(); !held.empty()) return std::string(held);
  if (migrating_) return "it is being migrated";
  if (jobs_.snapshots) return "a snapshot of it is being saved, loaded or deleted";
  if (jobs_.backs_up && shared_) return "it is being backed up";
  if (run_state_.running) return {};
  return fmt::format("it does not run: {}", run_state_.status);
}

Registration Dialogue::registration(const std::string& fallback) const {
  Registration guest;
  guest.name = guest_name_of(name_.value_or(""));
  if (guest.name.empty()) guest.name = fallback;
  guest.hypervisor = "qemu";
  if (uuid_) guest.labels["uuid"] = printable(*uuid_);
  guest.memory = memory();
  guest.vcpus = vcpus_;
  guest.balloon = balloon(actual());
  return guest;
}

StatsSample sample_of(const Statistics& statistics, Bytes actual, WallTime seen) {
  const WallTime second{statistics.updated_at.value_or(std::chrono::seconds(0))};
  StatsSample sample;
  sample.sampled_at = std::clamp(seen, second, second + std::chrono::milliseconds(999));
  sample.actual = actual;
  sample.swap_in = statistics.swap_in;
  sample.swap_out = statistics.swap_out;
  sample.major_faults = statistics.major_faults;
  sample.minor_faults = statistics.minor_faults;
  sample.free = statistics.free;
  sample.total = statistics.total;
  sample.available = statistics.available;
  sample.disk_caches = statistics.disk_caches;
  sample.hugetlb_allocations = statistics.hugetlb_allocations;
  sample.hugetlb_failures = statistics.hugetlb_failures;
  sample.oom_kills = statistics.oom_kills;
  sample.alloc_stalls = statistics.alloc_stalls;
  sample.async_scans = statistics.async_scans;
  sample.direct_scans = statistics.direct_scans;
  sample.async_reclaims = statistics.async_reclaims;
  sample.direct_reclaims = statistics.direct_reclaims;
  return sample;
}

}  // namespace balloon::daemon::qmp
