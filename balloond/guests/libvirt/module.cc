// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/libvirt/module.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <string_view>
#include <system_error>

namespace balloon::daemon::libvirt {
namespace {

constexpr std::string_view kFile = "lib/balloond/backend-libvirt.so";

auto unusable(std::string_view reason) {
  return fail(
      fmt::format("backends.libvirt needs the package balloond-libvirt, of balloond's own version ({}): {}",
                  BALLOON_VERSION, reason));
}

}  // namespace

std::string module_path() {
  std::error_code failed;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", failed);
  // Never relative: what lies in the current directory is not to be loaded.
  const auto prefix = failed ? std::filesystem::path("/usr") : program.parent_path().parent_path();
  return prefix / kFile;
}

Result<const Module*> load_module(const std::string& path) {
  if (::access(path.c_str(), F_OK) != 0) return unusable(fmt::format("{} is not there", path));
  void* const file = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (file == nullptr) return unusable(::dlerror());
  const auto* const module = static_cast<const Module*>(::dlsym(file, kModuleSymbol));
  if (module == nullptr) return unusable(fmt::format("{} is something else", path));
  if (std::string_view(module->version) != BALLOON_VERSION)
    return unusable(fmt::format("{} is of version {}", path, module->version));
  return module;
}

}  // namespace balloon::daemon::libvirt
