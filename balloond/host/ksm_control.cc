// SPDX-License-Identifier: Apache-2.0
#include "balloond/host/ksm_control.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>

#include "balloond/host/ksm_sampler.h"
#include "base/log.h"
#include "base/unique_fd.h"

namespace balloon::daemon {
namespace {

constexpr const char* kPagesToScan = "pages_to_scan";
/// A look reads one file of each process of the host: once a minute, at a tick a second.
constexpr unsigned kTicksBetweenLooks = 60;

std::uint64_t milliseconds(std::chrono::nanoseconds sleep) {
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(sleep).count());
}

/// What is to be done about a refused write.
std::string_view remedy(std::string_view file, int error) {
  // mm/ksm.c since Linux 6.8: pages_to_scan is the advisor's while there is one.
  if (error == EINVAL && file == kPagesToScan)
    return "turn the kernel's own advisor off (echo none >/sys/kernel/mm/ksm/advisor_mode)";
  return "let balloond run as root with a writable /sys";
}

}  // namespace

void KsmControl::apply(const policy::KsmPlan& plan, const policy::KsmSnapshot& now) {
  if (refused_) return;
  if (set_ && !as_set(now)) {
    if (!rival_noted_) look_for_manager();
    if (manager_) return;
    note_rival();
  }
  const auto written = write_changes(plan, now);
  if (!written) {
    refused_ = true;
    return log::error(
        "KSM stays as it is until the configuration is loaded again: {}; or say ksm: off under host",
        written.error().message);
  }
  set_ = plan;
  if (plan.run == now.running) return;
  if (plan.run) {
    log::info("KSM runs: {} pages every {} ms", plan.pages_to_scan, milliseconds(plan.sleep));
  } else {
    log::info("KSM stops; what is merged stays so");
  }
}

Result<void> KsmControl::write_changes(const policy::KsmPlan& plan, const policy::KsmSnapshot& now) const {
  if (plan.run && plan.pages_to_scan != now.pages_to_scan)
    BALLOON_TRY(write(kPagesToScan, plan.pages_to_scan));
  if (plan.run && milliseconds(plan.sleep) != milliseconds(now.sleep))
    BALLOON_TRY(write("sleep_millisecs", milliseconds(plan.sleep)));
  if (plan.run != now.running) BALLOON_TRY(write("run", plan.run ? 1 : 0));
  return {};
}

Result<void> KsmControl::write(const char* file, std::uint64_t value) const {
  const std::string path = root_ + kKsmDirectory + file;
  const std::string text = fmt::format("{}\n", value);
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC));
  if (fd && ::write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size())) return {};
  const int error = errno;
  const Error plain = fail_errno(fmt::format("cannot write {} to {}", value, path), error).error();
  return fail(fmt::format("{}: {}", plain.message, remedy(file, error)));
}

bool KsmControl::as_set(const policy::KsmSnapshot& now) const {
  return now.running == set_->run && (!set_->run || (now.pages_to_scan == set_->pages_to_scan &&
                                                     milliseconds(now.sleep) == milliseconds(set_->sleep)));
}

bool KsmControl::works() {
  if (refused_) return false;
  if (ticks_until_look_ == 0) look_for_manager();
  --ticks_until_look_;
  return !manager_;
}

void KsmControl::look_for_manager() {
  ticks_until_look_ = kTicksBetweenLooks;
  const bool had_one = manager_.has_value();
  manager_.reset();
  for (OtherController& other : other_controllers(root_))
    if (other.runs_ksm) manager_ = std::move(other);
  if (manager_ && !had_one) {
    log::warning(
        "{} (process {}) runs KSM: balloond leaves KSM alone while it does; for balloond to run it: {}",
        manager_->name, manager_->pid, manager_->advice);
  }
  if (manager_) set_.reset();
  if (!manager_ && had_one) log::info("no other manager of KSM runs any more: KSM is balloond's again");
}

void KsmControl::note_rival() {
  if (rival_noted_) return;
  rival_noted_ = true;
  log::warning(
      "somebody else sets KSM, too: balloond sets it again each time; turn the other off, or say ksm: off "
      "under host");
}

void KsmControl::note_missing() {
  if (missing_noted_) return;
  missing_noted_ = true;
  log::warning("policy says that balloond runs KSM (ksm: on under host), and this host's kernel has none");
}

void KsmControl::begin_anew() {
  set_.reset();
  ticks_until_look_ = 0;
  refused_ = rival_noted_ = missing_noted_ = false;
}

}  // namespace balloon::daemon
