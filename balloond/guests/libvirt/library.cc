// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/libvirt/library.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <thread>

namespace balloon::daemon::libvirt {
namespace {

/// The interface is stable within this number since libvirt 0.1 (libvirt.org/support.html).
constexpr const char* kFile = "libvirt.so.0";

/// libvirt's event loop has nothing to wait for until a connection is open; this keeps it from spinning.
constexpr int kIdleMillis = 1000;

Result<const Library*> load() {
  static Library library;
  void* const file = ::dlopen(kFile, RTLD_NOW | RTLD_LOCAL);
  if (file == nullptr)
    return fail(fmt::format("libvirt's client library cannot be loaded (Debian: libvirt0): {}", ::dlerror()));
#define BALLOON_LIBVIRT_LOAD(name)                                               \
  library.name = reinterpret_cast<decltype(library.name)>(::dlsym(file, #name)); \
  if (library.name == nullptr) return fail(fmt::format("{} has no {}", kFile, #name))
  BALLOON_LIBVIRT_FUNCTIONS(BALLOON_LIBVIRT_LOAD);
#undef BALLOON_LIBVIRT_LOAD
  if (library.virInitialize() != 0) return fail("libvirt's client library does not start");
  // Without it every error goes to standard error, too.
  library.virSetErrorFunc(nullptr, [](void*, virErrorPtr) {});
  if (library.virEventRegisterDefaultImpl() != 0) return fail("libvirt's event loop does not start");
  library.virEventAddTimeout(kIdleMillis, [](int, void*) {}, nullptr, nullptr);
  std::thread([] {
    while (true) library.virEventRunDefaultImpl();
  }).detach();
  return &library;
}

}  // namespace

std::string Library::error() const {
  std::string text = virGetLastErrorMessage();
  std::ranges::replace(text, '\n', ' ');
  return text;
}

Result<const Library*> load_library() {
  static const Result<const Library*> loaded = load();
  return loaded;
}

}  // namespace balloon::daemon::libvirt
