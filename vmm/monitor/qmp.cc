// SPDX-License-Identifier: Apache-2.0
#include "vmm/monitor/qmp.h"

#include <fmt/format.h>

#include <cmath>
#include <utility>

namespace balloon::vmm {
namespace {

using nlohmann::json;

/// A reply that has no client's text in it that is not valid UTF-8 (which nlohmann would refuse with an
/// exception).
std::string line(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace) + "\r\n";
}

json error_object(const QmpError& error) {
  return {{"class", error.error_class}, {"desc", error.description}};
}

json timestamp(std::chrono::system_clock::time_point at) {
  using namespace std::chrono;
  const auto since = at.time_since_epoch();
  return {{"seconds", duration_cast<seconds>(since).count()},
          {"microseconds", duration_cast<microseconds>(since % seconds(1)).count()}};
}

/// The keys that a request may have (qmp-spec.rst, "Issuing Commands").
std::optional<QmpError> complaint_about(const json& request) {
  if (!request.is_object()) return QmpError{kGenericError, "QMP input must be a JSON object"};
  for (const auto& [key, value] : request.items()) {
    if (key == "id") continue;
    if (key == "execute") {
      if (!value.is_string()) return QmpError{kGenericError, "QMP input member 'execute' must be a string"};
    } else if (key == "arguments") {
      if (!value.is_object())
        return QmpError{kGenericError, "QMP input member 'arguments' must be an object"};
    } else {
      return QmpError{kGenericError, fmt::format("QMP input member '{}' is unexpected", key)};
    }
  }
  if (!request.contains("execute")) return QmpError{kGenericError, "QMP input lacks member 'execute'"};
  return std::nullopt;
}

/// The request as JSON has it: QEMU also takes strings in single quotes, and \' in strings of either kind
/// (QEMU's docs/interop/qmp-spec, "JSON Object Syntax").
std::string with_double_quotes(std::string_view text) {
  std::string plain;
  plain.reserve(text.size());
  char quote = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quote == 0) {
      if (c == '"' || c == '\'') quote = c;
      plain += quote != 0 ? '"' : c;
    } else if (c == '\\' && i + 1 < text.size()) {
      if (text[++i] != '\'') plain += '\\';
      plain += text[i];
    } else if (c == quote) {
      quote = 0;
      plain += '"';
    } else {
      if (c == '"') plain += '\\';
      plain += c;
    }
  }
  return plain;
}

std::string_view action_name(IoFailure::Action action) {
  switch (action) {
    case IoFailure::Action::report:
      return "report";
    case IoFailure::Action::ignore:
      return "ignore";
    case IoFailure::Action::stop:
      return "stop";
  }
  return "";
}

}  // namespace

std::unexpected<QmpError> qmp_fail(std::string description) {
  return std::unexpected(QmpError{kGenericError, std::move(description)});
}

std::string QmpSession::greeting() {
  return line({{"QMP", {{"version", qmp_version()}, {"capabilities", json::array()}}}});
}

std::string QmpSession::handle(std::string_view text) {
  const json request = json::parse(with_double_quotes(text), nullptr, /*allow_exceptions=*/false);
  if (request.is_discarded())
    return qmp_error({kGenericError, "JSON parse error, the request is not valid JSON"});
  const QmpResult result = execute(request);
  json answer;
  if (result) {
    answer["return"] = *result;
  } else {
    answer["error"] = error_object(result.error());
  }
  if (request.is_object() && request.contains("id")) answer["id"] = request["id"];
  return line(answer);
}

bool QmpSession::is_slow(std::string_view text) const {
  if (!ready_) return false;
  const json request = json::parse(with_double_quotes(text), nullptr, /*allow_exceptions=*/false);
  if (!request.is_object()) return false;
  const auto name = request.find("execute");
  return name != request.end() && (*name == "stop" || *name == "cont" || *name == "snapshot-to-file" ||
                                   *name == "human-monitor-command");
}

QmpResult QmpSession::execute(const json& request) {
  if (auto complaint = complaint_about(request)) return std::unexpected(std::move(*complaint));
  const auto& name = request["execute"].get_ref<const std::string&>();
  const json arguments = request.value("arguments", json::object());
  if (name == "qmp_capabilities") {
    if (ready_) {
      return std::unexpected(
          QmpError{kCommandNotFound, "Capabilities negotiation is already complete, command ignored"});
    }
    if (const auto wanted = arguments.find("enable");
        wanted != arguments.end() && (!wanted->is_array() || !wanted->empty())) {
      return qmp_fail("no capability can be enabled: none is offered");
    }
    ready_ = true;
    return json::object();
  }
  if (!ready_) {
    return std::unexpected(
        QmpError{kCommandNotFound, "Expecting capabilities negotiation with 'qmp_capabilities'"});
  }
  const auto command = qmp_commands().find(name);
  if (command == qmp_commands().end()) {
    return std::unexpected(
        QmpError{kCommandNotFound, fmt::format("The command {} has not been found", name)});
  }
  return command->second(state_, arguments);
}

std::string qmp_error(const QmpError& error) { return line({{"error", error_object(error)}}); }

std::string qmp_event(const MonitorEvent& event) {
  using Kind = MonitorEvent::Kind;
  json message{{"timestamp", timestamp(event.at)}};
  switch (event.kind) {
    case Kind::stop:
      message["event"] = "STOP";
      break;
    case Kind::resume:
      message["event"] = "RESUME";
      break;
    case Kind::powerdown:
      message["event"] = "POWERDOWN";
      break;
    case Kind::shutdown:
      message["event"] = "SHUTDOWN";
      message["data"] = {{"guest", event.by_guest}, {"reason", event.reason}};
      break;
    case Kind::reset:
      message["event"] = "RESET";
      message["data"] = {{"guest", event.by_guest}, {"reason", event.reason}};
      break;
    case Kind::io_error:
      message["event"] = "BLOCK_IO_ERROR";
      message["data"] = {{"device", event.device},
                         {"node-name", event.device},
                         {"operation", event.failure.write ? "write" : "read"},
                         {"action", action_name(event.failure.action)},
                         {"nospace", event.failure.no_space},
                         {"reason", event.failure.reason}};
      break;
    case Kind::balloon_change:
      message["event"] = "BALLOON_CHANGE";
      message["data"] = {{"actual", event.actual.count()}};
      break;
  }
  return line(message);
}

std::expected<std::string, QmpError> string_argument(const json& arguments, const char* name) {
  const auto found = arguments.find(name);
  if (found == arguments.end()) return qmp_fail(fmt::format("Parameter '{}' is missing", name));
  if (!found->is_string())
    return qmp_fail(fmt::format("Invalid parameter type for '{}', expected: string", name));
  return found->get<std::string>();
}

std::expected<std::int64_t, QmpError> integer_value(const json& value, const char* name) {
  const auto wrong = [&] {
    return qmp_fail(fmt::format("Invalid parameter type for '{}', expected: integer", name));
  };
  if (value.is_number_unsigned()) {
    const auto number = value.get<std::uint64_t>();
    if (number > static_cast<std::uint64_t>(INT64_MAX)) return wrong();
    return static_cast<std::int64_t>(number);
  }
  if (value.is_number_integer()) return value.get<std::int64_t>();
  if (value.is_number_float()) {
    const double number = value.get<double>();
    constexpr double kExact = 9007199254740992.0;  // 2^53: whole numbers up to here are exact
    if (std::floor(number) == number && std::abs(number) <= kExact) return static_cast<std::int64_t>(number);
  }
  return wrong();
}

}  // namespace balloon::vmm
