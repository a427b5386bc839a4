// SPDX-License-Identifier: Apache-2.0
// A simulated run written down as balloond's journal would have it: for `balloon-sim replay`.
#pragma once

#include <memory>
#include <string>

#include "base/error.h"
#include "policy/sim/runner.h"

namespace balloon::policy::sim {

class RecordedRun {
 public:
  /// Writes to `directory`, which it makes: a file for each time that the daemon begins.
  static Result<RecordedRun> in(const std::string& directory);

  /// `law`, with everything written down that it sees and says.
  Contender of(const Contender& law) const;
  /// Whether all could be written. To be asked after the run.
  Result<void> written() const;

 private:
  struct Files;
  explicit RecordedRun(std::shared_ptr<Files> files) : files_(std::move(files)) {}

  std::shared_ptr<Files> files_;
};

}  // namespace balloon::policy::sim
