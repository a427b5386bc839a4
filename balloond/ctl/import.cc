// SPDX-License-Identifier: Apache-2.0
#include "balloond/ctl/import.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "balloond/guests/libvirt/description.h"
#include "balloond/guests/proxmox/configuration.h"
#include "base/bytes.h"
#include "base/error.h"

namespace balloon::ctl {
namespace {

Result<std::string> read_file(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  if (!file || !(text << file.rdbuf())) return fail(fmt::format("{} cannot be read", path));
  return text.str();
}

/// In the largest unit that says it exactly.
std::string size(Bytes bytes) {
  if (bytes % kGiB == Bytes{0}) return fmt::format("{}GiB", bytes / kGiB);
  if (bytes % kMiB == Bytes{0}) return fmt::format("{}MiB", bytes / kMiB);
  return fmt::format("{}KiB", bytes / kKiB);
}

/// Names are not ours: whatever they have stays one line of text.
std::string in_quotes(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += static_cast<unsigned char>(c) < ' ' ? '?' : c;
  }
  return out + '"';
}

std::string rule(const std::string& selector, const std::vector<std::string>& values,
                 const std::string& comment) {
  std::string line = "  - {" + selector;
  for (const std::string& value : values) line += ", " + value;
  return line + "}" + (comment.empty() ? "" : "  # " + comment) + "\n";
}

/// One line for each file; the first that cannot be understood ends it.
template <typename Import>
Printed import(const ImportArguments& arguments, std::string_view from, const Import& import_one) {
  Printed printed;
  printed.text = fmt::format("# What {} grants its guests today.\nguests:\n", from);
  for (const std::string& path : arguments.files) {
    const auto text = read_file(path);
    const Result<std::string> line = text ? import_one(path, *text) : std::unexpected(text.error());
    if (!line)
      return {
          .code = Exit::failure, .json = {}, .text = {}, .complaint = "balloonctl: " + line.error().message};
    printed.text += *line;
  }
  return printed;
}

Result<std::string> import_domain(const std::string& path, const std::string& xml) {
  const auto read = daemon::libvirt::read_description(xml);
  if (!read) return fail(path, read.error());
  if (read->memory == Bytes{0}) return fail(fmt::format("{}: it does not say the domain's memory", path));
  // Names of guests have no character of a shell pattern.
  const std::string selector = "name: " + in_quotes(read->guest);
  std::vector<std::string> values;
  if (!read->merging) values.emplace_back("ksm: off");
  if (!read->has_balloon) return rule(selector, {"max: 100%"}, "no balloon device: it is left alone");
  if (!read->interlock.empty()) return rule(selector, {"max: 100%"}, read->interlock + ": it is left alone");
  if (read->current == Bytes{0} || read->current >= read->memory) {
    values.emplace_back("max: 100%");
    return rule(selector, values, fmt::format("it has all its memory today, {}", size(read->memory)));
  }
  values.insert(values.begin(), "min: " + size(read->current));
  return rule(selector, values, fmt::format("currentMemory; it may have up to {}", size(read->memory)));
}

Result<std::string> import_proxmox_guest(const std::string& path, const std::string& text) {
  const auto read = daemon::proxmox::read_configuration(text);
  if (!read) return fail(path, read.error());
  const std::string who = read->name.empty() ? std::string() : read->name + ", ";
  const std::string selector =
      fmt::format("labels: {{socket: {}}}", in_quotes(std::filesystem::path(path).stem().string()));
  if (read->balloon == Bytes{0})
    return rule(selector, {"max: 100%"}, who + "balloon: 0, no balloon device: it is left alone");
  const std::string least = size(read->least());
  if (read->shares == 0) {
    return rule(selector, {"min: " + least, "max: " + least}, who + "shares: 0, no automatic ballooning");
  }
  if (read->least() == read->memory)
    return rule(selector, {"max: 100%"},
                who + fmt::format("it has all its memory today, {}", size(read->memory)));
  return rule(selector, {"min: " + least, fmt::format("weight: {}", read->weight())},
              who + fmt::format("it may have up to {}", size(read->memory)));
}

}  // namespace

Printed import_libvirt(const ImportArguments& arguments) {
  return import(arguments, "libvirt", import_domain);
}

Printed import_proxmox(const ImportArguments& arguments) {
  return import(arguments, "Proxmox", import_proxmox_guest);
}

}  // namespace balloon::ctl
