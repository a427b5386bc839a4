// SPDX-License-Identifier: Apache-2.0
#include "balloond/control/state_file.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <google/protobuf/message.h>
#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <filesystem>

#include "balloond/guests/sanitize.h"
#include "base/files.h"

namespace balloon::daemon {
namespace {

namespace json = google::protobuf::util;
using google::protobuf::Message;

/// The daemon's user and group: what guests are to have, and which are to be, is nobody else's business.
constexpr mode_t kFileMode = 0640;

Result<void> parse(const std::string& text, bool lenient, Message& state) {
  json::JsonParseOptions options;
  options.ignore_unknown_fields = lenient;
  state.Clear();
  const auto read = json::JsonStringToMessage(text, &state, options);
  if (!read.ok()) return fail(fmt::format("it is damaged: {}", printable(read.ToString())));
  return {};
}

std::uint32_t version_of(const Message& state) {
  return state.GetReflection()->GetUInt32(state, state.GetDescriptor()->FindFieldByName("version"));
}

}  // namespace

std::string state_text(const Message& state) {
  json::JsonPrintOptions options;
  options.add_whitespace = true;
  options.preserve_proto_field_names = true;
  std::string text;
  if (!json::MessageToJsonString(state, &text, options).ok()) text.clear();
  return text;
}

Result<void> parse_state(std::string_view text, std::span<const std::uint32_t> known, Message& state) {
  const std::string copy(text);
  BALLOON_TRY(parse(copy, /*lenient=*/true, state));
  if (const std::uint32_t version = version_of(state); !std::ranges::count(known, version)) {
    return fail(fmt::format("it has version {} of the format, this program reads version{} {}", version,
                            known.size() > 1 ? "s" : "", fmt::join(known, " and ")));
  }
  return parse(copy, /*lenient=*/false, state);
}

std::unexpected<Error> refused_state(const std::string& path, const Error& why, std::string_view as_if,
                                     std::string_view ends) {
  return fail(
      fmt::format("{}: {}. balloond does not start as if {}: mend the file, or move it away "
                  "(mv {} {}.damaged), which ends {}",
                  path, why.message, as_if, path, path, ends));
}

Result<void> save_state(const std::string& path, const std::string& text, std::string_view what) {
  if (text.empty()) return fail(fmt::format("the {} cannot be put into JSON", what));
  BALLOON_TRY(make_directory(std::filesystem::path(path).parent_path().string()));
  return replace_file(path, text, kFileMode);
}

}  // namespace balloon::daemon
