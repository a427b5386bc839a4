#include "balloond/ctl/json.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/timestamp.pb.h>

#include <cctype>
#include <chrono>
#include <nlohmann/json.hpp>

namespace balloon::ctl {
namespace {

using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Timestamp;
using Json = nlohmann::ordered_json;

Json convert(const Message& message);

/// One element of a repeated field, or a singular one when `index` is -1.
Json convert(const Message& message, const FieldDescriptor* field, int index) {
  const auto* reflection = message.GetReflection();
  const bool one = index < 0;
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return one ? reflection->GetInt32(message, field) : reflection->GetRepeatedInt32(message, field, index);
    case FieldDescriptor::CPPTYPE_INT64:
      return one ? reflection->GetInt64(message, field) : reflection->GetRepeatedInt64(message, field, index);
    case FieldDescriptor::CPPTYPE_UINT32:
      return one ? reflection->GetUInt32(message, field)
                 : reflection->GetRepeatedUInt32(message, field, index);
    case FieldDescriptor::CPPTYPE_UINT64:
      return one ? reflection->GetUInt64(message, field)
                 : reflection->GetRepeatedUInt64(message, field, index);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return one ? reflection->GetDouble(message, field)
                 : reflection->GetRepeatedDouble(message, field, index);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return one ? reflection->GetFloat(message, field) : reflection->GetRepeatedFloat(message, field, index);
    case FieldDescriptor::CPPTYPE_BOOL:
      return one ? reflection->GetBool(message, field) : reflection->GetRepeatedBool(message, field, index);
    case FieldDescriptor::CPPTYPE_ENUM:
      return short_name(one ? *reflection->GetEnum(message, field)
                            : *reflection->GetRepeatedEnum(message, field, index));
    case FieldDescriptor::CPPTYPE_STRING:
      return one ? reflection->GetString(message, field)
                 : reflection->GetRepeatedString(message, field, index);
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return convert(one ? reflection->GetMessage(message, field)
                         : reflection->GetRepeatedMessage(message, field, index));
  }
  return nullptr;
}

Json convert(const Message& message) {
  if (message.GetDescriptor() == Timestamp::descriptor()) {
    Timestamp time;
    time.CopyFrom(message);
    return format_time(time.seconds(), time.nanos());
  }
  Json object = Json::object();
  const auto* reflection = message.GetReflection();
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* const field = message.GetDescriptor()->field(i);
    Json& value = object[field->name()];
    if (field->is_map()) {
      value = Json::object();
      for (int j = 0; j < reflection->FieldSize(message, field); ++j) {
        const Message& entry = reflection->GetRepeatedMessage(message, field, j);
        const auto* const type = entry.GetDescriptor();
        value[entry.GetReflection()->GetString(entry, type->map_key())] =
            convert(entry, type->map_value(), -1);
      }
    } else if (field->is_repeated()) {
      value = Json::array();
      for (int j = 0; j < reflection->FieldSize(message, field); ++j)
        value.push_back(convert(message, field, j));
    } else if (field->has_presence() && !reflection->HasField(message, field)) {
      value = nullptr;
    } else {
      value = convert(message, field, -1);
    }
  }
  return object;
}

}  // namespace

std::string to_json(const Message& message) {
  return convert(message).dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string short_name(const EnumValueDescriptor& value) {
  // GUEST_STATE_BOOTING of GuestState: each of the enum's words is one of the prefix's.
  std::size_t prefix = value.type()->name().size() + 1;
  for (std::size_t i = 1; i < value.type()->name().size(); ++i) {
    if (std::isupper(static_cast<unsigned char>(value.type()->name()[i])) != 0) ++prefix;
  }
  std::string name = value.name().size() > prefix ? value.name().substr(prefix) : value.name();
  for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return name;
}

std::string format_time(std::int64_t seconds, std::int32_t nanos) {
  const std::chrono::sys_seconds time{std::chrono::seconds(seconds)};
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", fmt::gmtime(std::chrono::system_clock::to_time_t(time)),
                     nanos / 1'000'000);
}

}  // namespace balloon::ctl
