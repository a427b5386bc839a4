// SPDX-License-Identifier: Apache-2.0
#include "balloond/control/token.h"

#include <fmt/format.h>
#include <sys/random.h>

#include <array>
#include <cstdint>
#include <cstdlib>

namespace balloon::daemon {

std::string new_token() {
  std::array<std::uint64_t, 2> random{};
  // getrandom(2): up to 256 bytes come whole, once the kernel has been seeded.
  if (::getrandom(random.data(), sizeof random, 0) != sizeof random) std::abort();
  return fmt::format("{:016x}{:016x}", random[0], random[1]);
}

bool same_token(std::string_view one, std::string_view other) {
  if (one.size() != other.size()) return false;
  unsigned different = 0;
  for (std::size_t i = 0; i < one.size(); ++i)
    different |= static_cast<unsigned char>(one[i]) ^ static_cast<unsigned char>(other[i]);
  return different == 0;
}

}  // namespace balloon::daemon
