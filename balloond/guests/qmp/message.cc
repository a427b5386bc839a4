// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/qmp/message.h"

#include <fmt/format.h>

#include "balloond/guests/sanitize.h"

namespace balloon::daemon::qmp {
namespace {

using nlohmann::json;

/// Of a line that makes no sense this much is shown.
constexpr std::size_t kShownMax = 60;

std::string text_at(const json& object, const char* key) {
  const auto at = object.find(key);
  return at != object.end() && at->is_string() ? at->get<std::string>() : std::string();
}

std::optional<std::uint64_t> id_of(const json& object) {
  const auto id = object.find("id");
  if (id == object.end() || !id->is_number_unsigned()) return std::nullopt;
  return id->get<std::uint64_t>();
}

std::string version_of(const json& greeting) {
  const auto pointer = json::json_pointer("/version/qemu");
  if (!greeting.is_object() || !greeting.contains(pointer)) return {};
  const json& version = greeting.at(pointer);
  std::string text;
  for (const char* part : {"major", "minor", "micro"}) {
    if (!version.is_object() || !version.contains(part) || !version.at(part).is_number_unsigned()) return {};
    if (!text.empty()) text += '.';
    text += std::to_string(version.at(part).get<std::uint64_t>());
  }
  return text;
}

}  // namespace

Result<Message> parse_message(std::string_view line) {
  json object = json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (object.is_discarded())
    return fail(fmt::format("it sent what is not JSON: '{}'", printable(line.substr(0, kShownMax))));
  if (!object.is_object())
    return fail(
        fmt::format("it sent JSON that is not an object: '{}'", printable(line.substr(0, kShownMax))));
  if (const auto greeting = object.find("QMP"); greeting != object.end())
    return Greeting{.version = version_of(*greeting)};
  if (const auto value = object.find("return"); value != object.end())
    return Return{.id = id_of(object), .value = std::move(*value)};
  if (const auto error = object.find("error"); error != object.end() && error->is_object()) {
    return Failure{.id = id_of(object),
                   .error_class = printable(text_at(*error, "class")),
                   .description = printable(text_at(*error, "desc"))};
  }
  if (std::string name = text_at(object, "event"); !name.empty()) {
    const auto data = object.find("data");
    return Event{.name = std::move(name), .data = data == object.end() ? json::object() : std::move(*data)};
  }
  return fail(
      fmt::format("it sent an object that is no message of QMP: '{}'", printable(line.substr(0, kShownMax))));
}

std::string command_line(std::string_view name, const json& arguments, std::uint64_t id) {
  json command{{"execute", name}, {"id", id}};
  if (!arguments.empty()) command["arguments"] = arguments;
  return command.dump() + "\n";
}

}  // namespace balloon::daemon::qmp
