// SPDX-License-Identifier: Apache-2.0
#include "balloond/ctl/json.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/duration.pb.h>
#include <google/protobuf/timestamp.pb.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <chrono>
#include <nlohmann/json.hpp>

namespace balloon::ctl {
namespace {

using google::protobuf::Duration;
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
  if (message.GetDescriptor() == Duration::descriptor()) {
    Duration duration;
    duration.CopyFrom(message);
    return static_cast<double>(duration.seconds()) + duration.nanos() * 1e-9;
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

/// Words that YAML 1.1 (yaml.org/type/bool.html, null.html) or 1.2 reads as no text.
bool is_plain_text(const std::string& text) {
  static constexpr std::array kTaken{"true", "false", "yes", "no", "on", "off", "y", "n", "null"};
  std::string lower = text;
  std::ranges::transform(lower, lower.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return !text.empty() && std::isalpha(static_cast<unsigned char>(text[0])) != 0 &&
         std::ranges::all_of(text,
                             [](unsigned char c) { return std::isalnum(c) != 0 || c == '_' || c == '-'; }) &&
         std::ranges::find(kTaken, lower) == kTaken.end();
}

void emit(YAML::Emitter& out, const Json& json) {
  if (json.is_object()) {
    out << YAML::BeginMap;
    for (const auto& [key, value] : json.items()) {
      out << YAML::Key;
      emit(out, Json(key));
      out << YAML::Value;
      emit(out, value);
    }
    out << YAML::EndMap;
  } else if (json.is_array()) {
    out << YAML::BeginSeq;
    for (const Json& value : json) emit(out, value);
    out << YAML::EndSeq;
  } else if (json.is_string()) {
    const auto& text = json.get_ref<const std::string&>();
    if (!is_plain_text(text)) out << YAML::DoubleQuoted;
    out << text;
  } else if (json.is_null()) {
    out << YAML::Null;
  } else {
    out << json.dump();  // numbers, true and false are alike in both
  }
}

}  // namespace

Json json_of(const Message& message) { return convert(message); }

std::string json_text(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + '\n';
}

std::string yaml_text(const Json& json) {
  YAML::Emitter out;
  emit(out, json);
  return std::string(out.c_str()) + '\n';
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

std::string short_name(const google::protobuf::EnumDescriptor& type, int number) {
  const EnumValueDescriptor* const value = type.FindValueByNumber(number);
  return value == nullptr ? std::to_string(number) : short_name(*value);
}

std::string format_time(std::int64_t seconds, std::int32_t nanos) {
  const std::chrono::sys_seconds time{std::chrono::seconds(seconds)};
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", fmt::gmtime(std::chrono::system_clock::to_time_t(time)),
                     nanos / 1'000'000);
}

}  // namespace balloon::ctl
