// SPDX-License-Identifier: Apache-2.0
// What is recorded of the daemon's decisions, and for how long.
#pragma once

#include <cstdint>
#include <string>

namespace balloon::daemon {

/// Where the journal is and how large it may become. In the daemon's configuration: `journal`.
struct JournalConfig {
  std::string directory;  ///< empty: no journal
  /// Ten guests fill one in about two days; the loss of one, the unit in which old files go, is bearable.
  std::uint64_t file_size = 64ULL << 20;
  /// Of all files. A day of 50 guests, decided upon every second, takes some 100 MB.
  std::uint64_t total_size = 1ULL << 30;

  friend bool operator==(const JournalConfig&, const JournalConfig&) = default;
};

}  // namespace balloon::daemon
