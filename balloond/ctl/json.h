// Messages as JSON for programs: the proto's own field names, bytes as numbers, every key always there.
#pragma once

#include <google/protobuf/message.h>

#include <string>

namespace balloon::ctl {

/// On one line. Unset optional values are null; enum values are their names in lower case without the prefix;
/// times are RFC 3339 texts.
std::string to_json(const google::protobuf::Message& message);

/// The enum value's name in lower case without the prefix that its enum's name makes: "booting".
std::string short_name(const google::protobuf::EnumValueDescriptor& value);

/// RFC 3339 in UTC with milliseconds.
std::string format_time(std::int64_t seconds, std::int32_t nanos);

}  // namespace balloon::ctl
