// SPDX-License-Identifier: Apache-2.0
// Sizes in MiB: EXPECT_NEAR(mib(plan.target), 1150, 1).
#pragma once

#include "base/bytes.h"

namespace balloon::policy {

inline double mib(Bytes size) { return static_cast<double>(size) / static_cast<double>(kMiB); }

}  // namespace balloon::policy
