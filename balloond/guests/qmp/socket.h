// SPDX-License-Identifier: Apache-2.0
// Connecting to a QMP socket without ever waiting for it.
#pragma once

#include <expected>
#include <string>

#include "balloond/guests/guest.h"
#include "base/unique_fd.h"

namespace balloon::daemon::qmp {

struct Connection {
  UniqueFd fd;  ///< non-blocking
  Peer peer;    ///< who listens
};

struct ConnectFailure {
  enum class Kind : std::uint8_t {
    gone,     ///< nobody listens, or there is no such file
    busy,     ///< others wait there already
    refused,  ///< no permission, or something is wrong
  } kind = Kind::refused;
  std::string reason;
};

std::expected<Connection, ConnectFailure> connect_to(const std::string& path);

}  // namespace balloon::daemon::qmp
