// SPDX-License-Identifier: Apache-2.0
// Listening on a Unix socket at a path, and the leftovers of a former process there.
#pragma once

#include <sys/types.h>

#include <string>

#include "base/error.h"
#include "base/unique_fd.h"

namespace balloon {

/// A listening, non-blocking stream socket at `path` with the file mode `mode`. A socket that nobody serves
/// any more is replaced. Fails when the path is too long, is no socket, or is served by another process. The
/// caller unlinks the path in the end. Who connects while its queue is full is refused, so that it is as long
/// as the kernel lets it be (net.core.somaxconn, 4,096 since Linux 5.4).
Result<UniqueFd> listen_unix(const std::string& path, mode_t mode);

}  // namespace balloon
