// SPDX-License-Identifier: Apache-2.0
#include "balloond/control/control_switch.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <utility>

#include "base/log.h"

namespace balloon::daemon {

void ControlSwitch::set_dry_run(bool dry_run) {
  const MutexLock lock(mutex_);
  if (std::exchange(dry_run_, dry_run) == dry_run) return;
  if (dry_run) {
    log::warning("dry run: what is decided is not applied, balloons stay as they are");
  } else {
    log::info("the dry run is over: what is decided is applied");
  }
}

void ControlSwitch::pause(std::optional<std::chrono::nanoseconds> duration, std::string who) {
  const MutexLock lock(mutex_);
  pause_ = {.who = std::move(who), .end = std::nullopt};
  if (!duration) return;
  pause_->end = clock_.now() + *duration;
  pause_->end_wall = clock_.wall() + std::chrono::duration_cast<WallTime::duration>(*duration);
}

bool ControlSwitch::resume() {
  const MutexLock lock(mutex_);
  return std::exchange(pause_, std::nullopt).has_value();
}

std::string ControlSwitch::obstacle() {
  const MutexLock lock(mutex_);
  if (pause_ && pause_->end && clock_.now() >= *pause_->end) {
    log::info("control: the pause by {} is over", pause_->who);
    pause_.reset();
  }
  if (pause_ && pause_->end) {
    return fmt::format("paused by {} until {:%Y-%m-%dT%H:%M:%SZ}", pause_->who,
                       fmt::gmtime(std::chrono::system_clock::to_time_t(pause_->end_wall)));
  }
  if (pause_) return fmt::format("paused by {} until somebody resumes it", pause_->who);
  return dry_run_ ? "dry run" : "";
}

}  // namespace balloon::daemon
