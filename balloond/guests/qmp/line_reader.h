// SPDX-License-Identifier: Apache-2.0
// Bytes of a QMP socket cut into lines. Pure, and bounded: a peer that never ends its line cannot fill
// memory.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace balloon::daemon::qmp {

/// A line of QMP holds one JSON object. The longest that is asked for, query-blockstats, has about 1.5 KB for
/// each of a guest's disks (QEMU 7.2), so this leaves room for several hundred.
inline constexpr std::size_t kLineMax = std::size_t{1} << 20;

class LineReader {
 public:
  /// The lines that `bytes` complete, without their ends; empty ones are left out. Fails for good at the
  /// first line that is longer than kLineMax, complete or not.
  Result<std::vector<std::string>> feed(std::string_view bytes);
  /// A line has begun and not ended.
  bool in_line() const { return !rest_.empty(); }

 private:
  std::string rest_;
};

}  // namespace balloon::daemon::qmp
