// SPDX-License-Identifier: Apache-2.0
// `balloonctl import`: a policy file for what a host has today, from the files in which its hypervisor keeps
// its guests.
#pragma once

#include <string>
#include <vector>

#include "balloond/ctl/policy.h"

namespace balloon::ctl {

struct ImportArguments {
  std::vector<std::string> files{};
};

/// Domains' XML (/etc/libvirt/qemu/NAME.xml, virsh dumpxml).
Printed import_libvirt(const ImportArguments& arguments);
/// Guests' configuration (/etc/pve/qemu-server/VMID.conf).
Printed import_proxmox(const ImportArguments& arguments);

}  // namespace balloon::ctl
