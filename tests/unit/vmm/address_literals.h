// SPDX-License-Identifier: Apache-2.0
// Addresses and lengths as plain numbers, for tests of what deals in them: 2_MiB. A size is N * kMiB.
#pragma once

#include <cstdint>

#include "base/bytes.h"

namespace balloon::vmm {

consteval std::uint64_t operator""_KiB(unsigned long long count) { return (count * kKiB).count(); }
consteval std::uint64_t operator""_MiB(unsigned long long count) { return (count * kMiB).count(); }
consteval std::uint64_t operator""_GiB(unsigned long long count) { return (count * kGiB).count(); }

}  // namespace balloon::vmm
