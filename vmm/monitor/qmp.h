// SPDX-License-Identifier: Apache-2.0
// The QEMU Machine Protocol, as far as tools that drive QEMU's balloon use it (QEMU's
// docs/interop/qmp-spec.rst): one session a client. Pure: text in, text out.
#pragma once

#include <chrono>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "vmm/monitor/guest.h"

namespace balloon::vmm {

/// Errors have a class, of which tools know these (qapi/error.json).
struct QmpError {
  std::string error_class;
  std::string description;
};
inline constexpr const char* kGenericError = "GenericError";
inline constexpr const char* kCommandNotFound = "CommandNotFound";
inline constexpr const char* kDeviceNotFound = "DeviceNotFound";
inline constexpr const char* kDeviceNotActive = "DeviceNotActive";
/// QEMU's words to who asks a guest without a balloon for it.
inline constexpr const char* kNoBalloon = "No balloon device has been activated";

using QmpResult = std::expected<nlohmann::json, QmpError>;
/// An error of class GenericError.
std::unexpected<QmpError> qmp_fail(std::string description);

/// What is common to all sessions of a monitor.
struct QmpState {
  MonitorGuest& guest;
  std::chrono::seconds stats_interval{0};  ///< as last set by a client
};

class QmpSession {
 public:
  explicit QmpSession(QmpState& state) : state_(state) {}

  static std::string greeting();
  /// The answer to one request, a line; empty when there is none to give.
  std::string handle(std::string_view request);
  /// Whether this client has finished the handshake and so gets events.
  bool ready() const { return ready_; }
  /// Whether a request may take longer than others should wait for: it stops the guest, or
  /// waits for one that does, or writes a file.
  bool is_slow(std::string_view request) const;

 private:
  QmpResult execute(const nlohmann::json& request);
  QmpState& state_;
  bool ready_ = false;
};

/// An event as its line.
std::string qmp_event(const MonitorEvent& event);
/// {"timestamp": {...}, "event": ...} needs the time; an error before any request was understood needs none.
std::string qmp_error(const QmpError& error);

// The commands, in qmp_commands.cc.
nlohmann::json qmp_version();
using QmpCommand = QmpResult (*)(QmpState& state, const nlohmann::json& arguments);
const std::map<std::string_view, QmpCommand>& qmp_commands();

// The object model, in qmp_qom.cc.
QmpResult qom_list(QmpState& state, const nlohmann::json& arguments);
QmpResult qom_get(QmpState& state, const nlohmann::json& arguments);
QmpResult qom_set(QmpState& state, const nlohmann::json& arguments);

// The human monitor, in human.cc: what it prints.
std::string human_command(QmpState& state, std::string_view line);

/// The network device that a client means by its name; nothing: none.
std::optional<std::size_t> net_index(const MonitorGuest& guest, std::string_view name);

// Arguments, taken with QEMU's own complaints.
std::expected<std::string, QmpError> string_argument(const nlohmann::json& arguments, const char* name);
/// Integers, and whole numbers written as 1e9 or 1024.0.
std::expected<std::int64_t, QmpError> integer_value(const nlohmann::json& value, const char* name);

}  // namespace balloon::vmm
