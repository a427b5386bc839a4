#include "balloond/ctl/import.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>

#include "balloond/guests/libvirt/description.h"
#include "base/bytes.h"
#include "base/error.h"

namespace balloon::ctl {
namespace {

/// Proxmox' shares and libvirt's are 1000 where nobody said otherwise; a weight is 100.
constexpr std::uint64_t kSharesOfOneWeight = 10;
constexpr std::uint64_t kSharesDefault = 1000;
constexpr std::uint64_t kWeightMax = 10000;

Result<std::string> read_file(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  if (!file || !(text << file.rdbuf())) return fail(fmt::format("{} cannot be read", path));
  return text.str();
}

/// In the largest unit that says it exactly.
std::string size(Bytes bytes) {
  if (bytes % kGiB == 0) return fmt::format("{}GiB", bytes / kGiB);
  if (bytes % kMiB == 0) return fmt::format("{}MiB", bytes / kMiB);
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
  if (read->memory == 0) return fail(fmt::format("{}: it does not say the domain's memory", path));
  const std::string selector = "name: " + in_quotes(read->name);
  std::vector<std::string> values;
  if (!read->merging) values.emplace_back("ksm: off");
  if (!read->has_balloon) return rule(selector, {"max: 100%"}, "no balloon device: it is left alone");
  if (!read->interlock.empty()) return rule(selector, {"max: 100%"}, read->interlock + ": it is left alone");
  if (read->current == 0 || read->current >= read->memory) {
    values.emplace_back("max: 100%");
    return rule(selector, values, fmt::format("it has all its memory today, {}", size(read->memory)));
  }
  values.insert(values.begin(), "min: " + size(read->current));
  return rule(selector, values, fmt::format("currentMemory; it may have up to {}", size(read->memory)));
}

/// The keys of the guest as it is now: a snapshot's come after a line of its name.
std::map<std::string, std::string> keys_of(const std::string& text) {
  std::map<std::string, std::string> keys;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line) && !line.starts_with('[');) {
    const auto colon = line.find(": ");
    if (colon != std::string::npos && !line.starts_with('#'))
      keys.emplace(line.substr(0, colon), line.substr(colon + 2));
  }
  return keys;
}

std::optional<std::uint64_t> count(const std::map<std::string, std::string>& keys, const std::string& key) {
  const auto found = keys.find(key);
  if (found == keys.end()) return std::nullopt;
  std::string_view text = found->second;
  if (text.starts_with("current=")) text.remove_prefix(8);  // the form of Proxmox 8.1 and later
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || value > (std::uint64_t{1} << 26)) return std::nullopt;
  return value;
}

Result<std::string> import_proxmox_guest(const std::string& path, const std::string& text) {
  const auto keys = keys_of(text);
  const std::string id = std::filesystem::path(path).stem().string();
  const auto memory = count(keys, "memory").value_or(512);  // qm.conf(5)
  const auto least = count(keys, "balloon");
  const auto shares = count(keys, "shares").value_or(kSharesDefault);
  if (keys.empty()) return fail(fmt::format("{}: it is no guest's configuration", path));
  const auto name = keys.find("name");
  const std::string who = name == keys.end() ? std::string() : name->second + ", ";
  const std::string selector = fmt::format("labels: {{socket: {}}}", in_quotes(id));
  if (least == 0)
    return rule(selector, {"max: 100%"}, who + "balloon: 0, no balloon device: it is left alone");
  const std::uint64_t floor = std::min(least.value_or(memory), memory);
  if (shares == 0) {
    return rule(selector, {"min: " + size(floor * kMiB), "max: " + size(floor * kMiB)},
                who + "shares: 0, no automatic ballooning");
  }
  if (floor == memory)
    return rule(selector, {"max: 100%"},
                who + fmt::format("it has all its memory today, {}", size(memory * kMiB)));
  const std::uint64_t weight = std::clamp<std::uint64_t>(shares / kSharesOfOneWeight, 1, kWeightMax);
  return rule(selector, {"min: " + size(floor * kMiB), fmt::format("weight: {}", weight)},
              who + fmt::format("it may have up to {}", size(memory * kMiB)));
}

}  // namespace

Printed import_libvirt(const ImportArguments& arguments) {
  return import(arguments, "libvirt", import_domain);
}

Printed import_proxmox(const ImportArguments& arguments) {
  return import(arguments, "Proxmox", import_proxmox_guest);
}

}  // namespace balloon::ctl
