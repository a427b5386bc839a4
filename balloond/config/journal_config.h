// SPDX-License-Identifier: Apache-2.0
// What is recorded of the daemon's decisions, and for how long.
#pragma once

#include <string>

#include "base/bytes.h"

namespace balloon::daemon {

/// Where the journal is and how large it may become. In the daemon's configuration: `journal`.
struct JournalConfig {
  std::string directory;  ///< empty: no journal
  /// Ten guests fill one in about two days; the loss of one, the unit in which old files go, is bearable.
  Bytes file_size = 64 * kMiB;
  /// Of all files. A day of 50 guests, decided upon every second, takes some 100 MB.
  Bytes total_size = kGiB;

  friend bool operator==(const JournalConfig&, const JournalConfig&) = default;
};

}  // namespace balloon::daemon
