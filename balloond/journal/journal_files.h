// SPDX-License-Identifier: Apache-2.0
// The files of the journal: their names, their making, and the end of the oldest.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "base/bytes.h"
#include "base/error.h"
#include "base/unique_fd.h"

namespace balloon::daemon {

/// One run of the daemon.
struct JournalRun {
  std::chrono::system_clock::time_point began;
  std::uint64_t id = 0;  ///< random
};

/// "20261122T162534.123Z-0123456789abcdef-000001.balloonrec": the order of the alphabet is that of time, and
/// a run's files are together.
std::string journal_file_name(const JournalRun& run, std::uint64_t sequence);

/// Makes `name` in the directory, and the directory if need be. 0640: what guests do is nobody else's
/// business.
Result<UniqueFd> make_journal_file(const std::string& directory, const std::string& name);

/// Removes the oldest recordings in the directory, but for the one called `keep`, until all come to no more
/// than `size`. Other files are left alone.
Result<void> trim_journal(const std::string& directory, Bytes size, const std::string& keep);

}  // namespace balloon::daemon
