// SPDX-License-Identifier: Apache-2.0
// Memory of a guest that its host cannot take back page by page, as the process that runs it shows.
#pragma once

#include <string_view>

#include "balloond/host/process.h"
#include "base/bytes.h"

namespace balloon::daemon {

class HeldMemory {
 public:
  /// Locked and pinned memory comes and goes with a device that is plugged in and out. What lies in huge
  /// pages of the host's pool was decided at the start, and is seen once the guest has touched some of it.
  void see(const ProcessMemory& process, Bytes memory) {
    if (process.resident == Bytes{0}) return;  // it ends, and has nothing any more
    in_huge_pages_ = in_huge_pages_ || process.huge > process.resident / kPart;
    locked_ = memory > Bytes{0} && process.locked >= memory / kPart;
    pinned_ = memory > Bytes{0} && process.pinned >= memory / kPart;
  }

  /// Why a balloon would free nothing; empty when it would.
  std::string_view why() const {
    if (pinned_) return "its memory is pinned for a device of the host";
    if (locked_) return "its memory is locked";
    if (in_huge_pages_) return "its memory is in huge pages of the host";
    return {};
  }

 private:
  /// Of the guest's memory, or of what the process has: its own needs are some tens of MiB.
  static constexpr unsigned kPart = 2;
  bool locked_ = false;
  bool pinned_ = false;
  bool in_huge_pages_ = false;
};

}  // namespace balloon::daemon
