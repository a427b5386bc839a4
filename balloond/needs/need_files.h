// SPDX-License-Identifier: Apache-2.0
// What guests needed, on disk: a file for each day (proto/balloon/state/v1/needs.proto), replaced whole.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "balloond/needs/need_history.h"
#include "base/error.h"

namespace balloon::daemon {

std::string write_needs(const DayOfNeeds& needs);
/// What is not as it was written is refused, with what it is.
Result<DayOfNeeds> read_needs(std::string_view text);

class NeedFiles {
 public:
  /// A guest takes at most 1 KiB a day: its histogram some 800 bytes, its name 64.
  static constexpr std::size_t kSizeMax = NeedHistory::kGuestsOfDay * 1024;

  explicit NeedFiles(std::string directory) : directory_(std::move(directory)) {}

  /// Days that have a file, newest first.
  std::vector<Day> days() const;
  Result<DayOfNeeds> load(Day day) const;
  /// On the disk when it returns.
  Result<void> save(const DayOfNeeds& needs) const;
  /// A file that cannot be read is out of the way of the next save: it is renamed to NAME.damaged.
  void set_aside(Day day) const;
  /// Removes the oldest days above NeedHistory::kDays.
  void prune() const;

  std::string path_of(Day day) const;

 private:
  const std::string directory_;
};

}  // namespace balloon::daemon
