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
  note_rival(now);
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

void KsmControl::note_rival(const policy::KsmSnapshot& now) {
  if (!set_ || rival_noted_) return;
  const bool as_set =
      now.running == set_->run && (!set_->run || (now.pages_to_scan == set_->pages_to_scan &&
                                                  milliseconds(now.sleep) == milliseconds(set_->sleep)));
  if (as_set) return;
  rival_noted_ = true;
  log::warning(
      "somebody else sets KSM, too: balloond sets it again each time; turn the other off (ksmtuned?), or say "
      "ksm: off under host");
}

void KsmControl::note_missing() {
  if (missing_noted_) return;
  missing_noted_ = true;
  log::warning("policy says that balloond runs KSM (ksm: on under host), and this host's kernel has none");
}

void KsmControl::begin_anew() {
  set_.reset();
  refused_ = rival_noted_ = missing_noted_ = false;
}

}  // namespace balloon::daemon
