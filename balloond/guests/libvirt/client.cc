// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/libvirt/client.h"

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#include <algorithm>
#include <thread>

namespace balloon::daemon::libvirt {
namespace {

/// libvirt's event loop has nothing to wait for until a connection is open; this keeps it from spinning.
constexpr int kIdleMillis = 1000;

Result<void> start() {
  if (virInitialize() != 0) return fail("libvirt's client library does not start");
  // Without it every error goes to standard error, too.
  virSetErrorFunc(nullptr, [](void*, virErrorPtr) {});
  if (virEventRegisterDefaultImpl() != 0) return fail("libvirt's event loop does not start");
  virEventAddTimeout(kIdleMillis, [](int, void*) {}, nullptr, nullptr);
  std::thread([] {
    while (true) virEventRunDefaultImpl();
  }).detach();
  return {};
}

}  // namespace

Result<void> start_client() {
  static const Result<void> started = start();
  return started;
}

std::string last_error() {
  std::string text = virGetLastErrorMessage();
  std::ranges::replace(text, '\n', ' ');
  return text;
}

}  // namespace balloon::daemon::libvirt
