// SPDX-License-Identifier: Apache-2.0
// Writes a recording, record by record.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "policy/recording/record.h"

namespace balloon::policy::recording {

class Encoder {
 public:
  /// What a file begins with. What follows in it leans on nothing that other files have.
  void begin(const Start& start, std::string& out);
  /// What the law is tuned by from the next tick on.
  void tunables(const Tunables& tunables, std::string& out);
  /// `labels`: of the guests, in the snapshot's order. Fails, and adds nothing, when it does not fit into a
  /// record: the file then cannot go on.
  bool tick(std::uint64_t number, std::chrono::milliseconds wall, const Snapshot& snapshot,
            std::span<const Labels* const> labels, const Plan& plan, std::string& out);

 private:
  void roster(const Snapshot& snapshot, std::span<const Labels* const> labels, std::string& out);

  Tick before_;
  std::vector<std::size_t> stood_;  ///< where each guest stood in the tick before; none: nowhere
};

}  // namespace balloon::policy::recording
