// SPDX-License-Identifier: Apache-2.0
// A backend for libvirt that belongs to another balloond.
#include "balloond/guests/libvirt/module.h"

extern "C" {
extern const balloon::daemon::libvirt::Module balloond_libvirt;
const balloon::daemon::libvirt::Module balloond_libvirt{.version = "0.0.7", .start = nullptr};
}
