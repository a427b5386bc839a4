// SPDX-License-Identifier: Apache-2.0
// What a QMP server says, one message a line (QEMU's docs/interop/qmp-spec.rst, 2.2 to 2.5). Pure.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "base/error.h"

namespace balloon::daemon::qmp {

struct Greeting {
  std::string version;  ///< "7.2.22"
};

/// A command was done.
struct Return {
  std::optional<std::uint64_t> id;  ///< of the command; unset: it had none, or was not understood that far
  nlohmann::json value;
};

/// A command was not done.
struct Failure {
  std::optional<std::uint64_t> id;
  std::string error_class;  ///< "CommandNotFound", "DeviceNotActive", "GenericError" and others
  std::string description;
};

struct Event {
  std::string name;
  nlohmann::json data;
};

using Message = std::variant<Greeting, Return, Failure, Event>;

/// Fails on what is no message of QMP, and says what it is instead.
Result<Message> parse_message(std::string_view line);

/// The command as a line, with its end.
std::string command_line(std::string_view name, const nlohmann::json& arguments, std::uint64_t id);

}  // namespace balloon::daemon::qmp
