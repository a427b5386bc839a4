// SPDX-License-Identifier: Apache-2.0
// What the kernel says of waiting for memory (Documentation/accounting/psi.rst): the host's and a cgroup's
// files have the same lines.
#pragma once

#include <cstdint>
#include <string_view>

namespace balloon::daemon {

struct PressureLine {
  double avg10 = 0;  ///< share of the last 10 s, 0 to 1
  std::uint64_t total_micros = 0;
};

/// The line of `kind` ("some " or "full "): "some avg10=0.12 avg60=0.05 avg300=0.01 total=12345". Zeros when
/// there is none.
PressureLine parse_pressure(std::string_view text, std::string_view kind);

}  // namespace balloon::daemon
