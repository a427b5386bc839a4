// SPDX-License-Identifier: Apache-2.0
// Messages as JSON or YAML for programs: the proto's own field names, bytes as numbers, every key always
// there.
#pragma once

#include <google/protobuf/message.h>

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace balloon::ctl {

/// Unset optional values are null; enum values are their names in lower case without the prefix; times are
/// RFC 3339 texts; durations are seconds.
nlohmann::ordered_json json_of(const google::protobuf::Message& message);

/// On one line, with its end.
std::string json_text(const nlohmann::ordered_json& json);
/// The same as a YAML document. Texts that YAML 1.1 or 1.2 would take for something else are quoted.
std::string yaml_text(const nlohmann::ordered_json& json);

/// The enum value's name in lower case without the prefix that its enum's name makes: "booting".
std::string short_name(const google::protobuf::EnumValueDescriptor& value);
/// The same of a value by its number; the number where a newer daemon says what this program does not know.
std::string short_name(const google::protobuf::EnumDescriptor& type, int number);

/// RFC 3339 in UTC with milliseconds.
std::string format_time(std::int64_t seconds, std::int32_t nanos);

}  // namespace balloon::ctl
