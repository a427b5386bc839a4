// SPDX-License-Identifier: Apache-2.0
// How the daemon's small files of state (proto/balloon/state/v1) are written, read and refused.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"

namespace google::protobuf {
class Message;
}

namespace balloon::daemon {

/// As JSON. Empty when that fails, which it does not for texts that are ASCII and times that are in range.
std::string state_text(const google::protobuf::Message& state);

/// A newer version may say more than this program knows, so the version, one of `known`, is looked at first.
Result<void> parse_state(std::string_view text, std::span<const std::uint32_t> known,
                         google::protobuf::Message& state);

/// "FILE: WHY. balloond does not start as if AS_IF: ... which ends ENDS": what to do about it.
std::unexpected<Error> refused_state(const std::string& path, const Error& why, std::string_view as_if,
                                     std::string_view ends);

/// Replaces the file whole; `what` it has is for the error. On the disk when it returns.
Result<void> save_state(const std::string& path, const std::string& text, std::string_view what);

}  // namespace balloon::daemon
