// SPDX-License-Identifier: Apache-2.0
// How much a fuzz target has on the heap, counted at each allocation: what a device holds in the middle of an
// input and has let go at its end shows in no size of the process.
#pragma once

#include "base/bytes.h"

namespace balloon::vmm::fuzz {

Bytes heap_now();
/// The most since forget_heap_peak() was called last.
Bytes heap_peak();
void forget_heap_peak();

}  // namespace balloon::vmm::fuzz
