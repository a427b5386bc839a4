// SPDX-License-Identifier: Apache-2.0
#include "base/other_controllers.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string_view>

namespace balloon {
namespace {

struct Known {
  std::string_view name;
  bool moves_balloons;
  bool runs_ksm;
  std::string_view advice;
};

/// What is packaged for KVM hosts. docs/coming-from.md has the steps to change over from each.
constexpr std::array kKnown = {
    Known{"ksmtuned", false, true, "systemctl disable --now ksmtuned"},
    Known{"momd", true, true, "systemctl disable --now momd mom-vdsm"},
    Known{"pvestatd", true, false, "qm set ID --shares 0 for each guest that balloond has"},
};

/// A script started by its own name has that name; one given to these has theirs.
constexpr std::array<std::string_view, 4> kInterpreters = {"python", "bash", "sh", "perl"};

std::string base_name(std::string_view path) { return std::string(path.substr(path.rfind('/') + 1)); }

std::string text_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::array<char, 512> text{};
  file.read(text.data(), text.size());
  return {text.data(), static_cast<std::size_t>(file.gcount())};
}

const Known* known(std::string_view name) {
  const auto* const found = std::ranges::find(kKnown, name, &Known::name);
  return found == kKnown.end() ? nullptr : found;
}

/// "python3 /usr/sbin/momd -c FILE" is momd, too.
const Known* known_script(const std::string& arguments) {
  const std::size_t end = arguments.find('\0');
  if (end == std::string::npos) return nullptr;
  return known(base_name(arguments.c_str() + end + 1));
}

const Known* look_at(const std::string& process) {
  std::string name = text_of(process + "/comm");
  if (name.ends_with('\n')) name.pop_back();
  if (const Known* const it = known(name)) return it;
  const bool interpreter =
      std::ranges::any_of(kInterpreters, [&](std::string_view each) { return name.starts_with(each); });
  return interpreter ? known_script(text_of(process + "/cmdline")) : nullptr;
}

std::optional<pid_t> number(const std::string& name) {
  pid_t pid = 0;
  const char* const end = name.data() + name.size();
  const auto [at, error] = std::from_chars(name.data(), end, pid);
  if (error != std::errc() || at != end) return std::nullopt;
  return pid;
}

}  // namespace

std::vector<OtherController> other_controllers(const std::string& root) {
  std::vector<OtherController> found;
  std::error_code ignored;
  for (std::filesystem::directory_iterator at(root + "/proc", ignored), end; !ignored && at != end;
       at.increment(ignored)) {
    const auto pid = number(at->path().filename().string());
    const Known* const it = pid ? look_at(at->path().string()) : nullptr;
    if (it == nullptr ||
        std::ranges::any_of(found, [&](const auto& other) { return other.name == it->name; }))
      continue;
    found.push_back({.name = std::string(it->name),
                     .pid = *pid,
                     .moves_balloons = it->moves_balloons,
                     .runs_ksm = it->runs_ksm,
                     .advice = std::string(it->advice)});
  }
  std::ranges::sort(found, {}, &OtherController::name);
  return found;
}

}  // namespace balloon
