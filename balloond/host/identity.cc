// SPDX-License-Identifier: Apache-2.0
#include "balloond/host/identity.h"

#include <limits.h>
#include <systemd/sd-id128.h>
#include <unistd.h>

#include <array>

#include "balloond/guests/sanitize.h"

namespace balloon::daemon {
namespace {

/// What machine-id(5) asks for: an id of this program's own, made of the machine's by a keyed hash.
constexpr sd_id128_t kProgram = SD_ID128_MAKE(5d, 8e, 30, 6a, 1f, 0c, 4b, 52, 9a, 77, 10, e4, b6, 2d, c3, 91);

}  // namespace

HostIdentity HostIdentity::read() {
  HostIdentity identity;
  sd_id128_t id{};
  // Without /etc/machine-id (a container, a root that is read-only at its first boot): of this boot.
  if (::sd_id128_get_machine_app_specific(kProgram, &id) == 0 ||
      ::sd_id128_get_boot_app_specific(kProgram, &id) == 0) {
    std::array<char, SD_ID128_STRING_MAX> text{};
    identity.id = ::sd_id128_to_string(id, text.data());
  }
  std::array<char, HOST_NAME_MAX + 1> name{};
  if (::gethostname(name.data(), name.size() - 1) == 0) identity.name = printable(name.data());
  return identity;
}

}  // namespace balloon::daemon
