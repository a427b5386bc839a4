// SPDX-License-Identifier: Apache-2.0
// What the kernel says of samepage merging: /sys/kernel/mm/ksm (Documentation/admin-guide/mm/ksm.rst).
#pragma once

#include <optional>
#include <string>

#include "balloond/host/pseudo_file.h"
#include "policy/types.h"

namespace balloon::daemon {

inline constexpr const char* kKsmDirectory = "/sys/kernel/mm/ksm/";

/// Beside what policy sees.
struct KsmFigures {
  policy::Bytes changing{};      ///< changes too fast to be merged (pages_volatile)
  std::uint64_t full_scans = 0;  ///< since boot
  /// What merging saves less what its bookkeeping takes, bytes (general_profit, Linux 6.4): below 0 it costs.
  std::optional<std::int64_t> profit;
  bool unmerging = false;  ///< somebody has all of it copied again (2 in run)
};

class KsmSampler {
 public:
  /// `root` goes before /sys: empty but for tests.
  explicit KsmSampler(const std::string& root);
  /// Nothing on a host without KSM. Does not say whether it is controllable.
  std::optional<policy::KsmSnapshot> sample(ReadBuffer& buffer, KsmFigures& more) const;

 private:
  PseudoFile run_, shared_, sharing_, unshared_, volatile_, full_scans_, profit_, pages_to_scan_, sleep_;
};

}  // namespace balloon::daemon
