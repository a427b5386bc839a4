// SPDX-License-Identifier: Apache-2.0
// The host can lack a page of the guest's memory: its pool of huge pages is empty after the guest gave pages
// back, and uses them still. Whoever touches such a page gets SIGBUS, from which there is no way on.
#pragma once

#include <string_view>

namespace balloon::vmm {

class GuestMemory;

/// From now on a SIGBUS in the guest's memory ends the process with exit status 1, and a line on standard
/// error that tells `guest`'s name, why, and what to do; anywhere else it ends it as ever.
void tell_of_lost_memory(std::string_view guest);
/// Which addresses are the guest's; the last that were told count.
void set_guest_memory(const GuestMemory& memory);

}  // namespace balloon::vmm
