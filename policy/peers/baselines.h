// SPDX-License-Identifier: Apache-2.0
// What hosts without a balloon controller do: nothing, or a fixed size for each guest.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "policy/controller.h"

namespace balloon::policy::peers {

/// Every guest has its whole boot memory; the host's kernel swaps what does not fit.
class NoBalloon final : public Controller {
 public:
  Plan decide(const Snapshot& snapshot) override;
};

/// The host's memory is divided once among the guests, by weight between their limits, and stays so until
/// guests come or go.
class StaticPartition final : public Controller {
 public:
  Plan decide(const Snapshot& snapshot) override;

 private:
  void divide(const Snapshot& snapshot);

  std::optional<Bytes> budget_;  ///< as found at the first decision
  std::vector<std::string> names_;
  std::vector<Bytes> sizes_;
};

}  // namespace balloon::policy::peers
