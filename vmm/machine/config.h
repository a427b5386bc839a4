// SPDX-License-Identifier: Apache-2.0
// What a VMM is told: by flags, by a YAML file, or both (a flag wins over the file).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "vmm/boot/boot.h"
#include "vmm/devices/devices.h"
#include "vmm/devices/serial/backend.h"
#include "vmm/machine/config_disk.h"
#include "vmm/machine/config_memory.h"
#include "vmm/machine/config_net.h"
#include "vmm/machine/config_virtio.h"

namespace balloon::vmm {

struct VmmConfig {
  std::string name;
  Bytes memory{};
  MemoryBacking memory_backing;
  std::uint32_t cpus = 1;
  BootSource boot;
  std::vector<BlockConfig> disks;
  std::vector<NetConfig> nets;
  SerialConfig serial;
  SerialConfig console{SerialConfig::Kind::none};  ///< of the virtio console; none: the guest has none
  RngConfig rng;
  BalloonConfig balloon;
  TransportConfig virtio;
  std::string link;     ///< socket of the host daemon; empty: none
  std::string restore;  ///< snapshot to go on from; empty: boot
  std::string monitor;  ///< socket of the QMP-compatible monitor; empty: none
  std::map<std::string, std::string> labels;
  std::string log_level = "info";
  bool reboot = true;      ///< false: a guest's reboot ends the process
  bool daemonize = false;  ///< goes to the background once the guest runs
  std::string pid_file;    ///< has the process's number while the guest runs; empty: none
};

/// Flags as they were written; what is unset or empty leaves the file's value alone.
struct Flags {
  std::optional<std::string> name, memory, memory_backing, cpus, kernel, initrd, cmdline, serial, console,
      rng, balloon, virtio, link, monitor, restore, log_level, config, pid_file;
  std::vector<std::string> disks, nets, labels;
  bool no_reboot = false;
  bool daemonize = false;
};

/// Reads the file (if the flags name one), lays the flags over it, and checks everything that can be checked
/// without opening anything else. The error lists each complaint on a line of its own.
Result<VmmConfig> make_config(const Flags& flags);

// The values of single flags.
Result<SerialConfig> parse_serial(
    std::string_view text);  ///< stdio[,keys=...], none, pty, pty:LINK, file:PATH, unix:PATH
/// on, off, bytes-per-second=SIZE
Result<RngConfig> parse_rng(std::string_view text);

/// Checks values against each other and against what the machine can do.
Result<void> check_config(const VmmConfig& config);

/// Reads `text` (named `name` in complaints) into `config`.
Result<void> read_config(std::string_view text, const std::string& name, VmmConfig& config);

}  // namespace balloon::vmm
