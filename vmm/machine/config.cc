// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/config.h"

#include <fmt/format.h>
#include <sys/un.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <sstream>

#include "vmm/arch/x86_64/layout.h"
#include "vmm/machine/config_identity.h"
#include "vmm/pci/pci_root.h"

namespace balloon::vmm {
namespace {

constexpr Bytes kMinMemory = 64 * kMiB;  ///< less does not boot a distribution's kernel
/// Guest-physical addresses fit in 40 bits on every CPU with KVM; the RAM above 4 GiB starts there.
constexpr Bytes kMaxMemory = 1000 * kGiB;
constexpr Bytes kMemoryStep = 2 * kMiB;  ///< a huge page: no ragged end that could never be one
constexpr std::uint32_t kMaxCpus = 64;
constexpr std::size_t kMaxName = 64;
constexpr std::size_t kMaxLabels = 64;
constexpr std::size_t kMaxLabelValue = 256;
constexpr std::size_t kMaxSocketPath = sizeof(sockaddr_un::sun_path) - 1;
/// Slots without the host bridge, the balloon, the rng and the console.
constexpr std::size_t kMaxDisksAndNets = PciRoot::kSlots - 4;
constexpr Bytes kMinTarget = 16 * kMiB;  ///< below it a target is a slip of the pen, not a wish

bool plain(std::string_view text) {
  return !text.empty() && text.size() <= kMaxName && std::ranges::all_of(text, [](unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  });
}

Result<void> check_socket(std::string_view what, const std::string& path) {
  if (path.empty()) return fail(fmt::format("{}: the socket path is empty", what));
  if (path.size() > kMaxSocketPath) {
    return fail(fmt::format("{}: the socket path '{}' has {} bytes, {} are allowed: use a shorter directory",
                            what, path, path.size(), kMaxSocketPath));
  }
  return {};
}

Result<void> check_memory(const VmmConfig& config) {
  if (config.memory == Bytes{0})
    return fail("memory is missing: say how much the guest has, for example 2GiB");
  if (config.memory < kMinMemory || config.memory > kMaxMemory) {
    return fail(fmt::format("memory: {} is not within {} to {}", format_bytes(config.memory),
                            format_bytes(kMinMemory), format_bytes(kMaxMemory)));
  }
  if (config.memory % kMemoryStep != Bytes{0}) {
    return fail(fmt::format("memory: {} bytes is not a multiple of {}", config.memory.count(),
                            format_bytes(kMemoryStep)));
  }
  BALLOON_TRY(check_memory_backing(config.memory, config.memory_backing, config.balloon));
  const Bytes target = config.balloon.initial_target;
  if (target != Bytes{0} && !config.balloon.enabled) {
    return fail("balloon target: the guest has no balloon: leave the target out, or 'off'");
  }
  if (target != Bytes{0} && target < kMinTarget) {
    return fail(
        fmt::format("balloon target: {} is less than {}", format_bytes(target), format_bytes(kMinTarget)));
  }
  if (target > config.memory) {
    return fail(fmt::format("balloon target: {} is more than the guest's memory, {}", format_bytes(target),
                            format_bytes(config.memory)));
  }
  return {};
}

Result<void> check_serial(std::string_view what, const SerialConfig& config) {
  if (config.kind == SerialConfig::Kind::unix_socket) return check_socket(what, config.path);
  if (config.kind == SerialConfig::Kind::file && config.path.empty()) {
    return fail(fmt::format("{}: the file's path is empty", what));
  }
  return {};
}

Result<void> check_devices(const VmmConfig& config) {
  if (config.disks.size() + config.nets.size() > kMaxDisksAndNets) {
    return fail(fmt::format("{} disks and {} nets are more than the {} that fit on the PCI bus",
                            config.disks.size(), config.nets.size(), kMaxDisksAndNets));
  }
  for (const BlockConfig& disk : config.disks) BALLOON_TRY(check_disk(disk));
  for (const NetConfig& net : config.nets) BALLOON_TRY(check_net(net));
  BALLOON_TRY(check_identities(config));
  BALLOON_TRY(check_serial("serial", config.serial));
  BALLOON_TRY(check_serial("console", config.console));
  const bool on_terminal =
      config.serial.kind == SerialConfig::Kind::stdio || config.console.kind == SerialConfig::Kind::stdio;
  if (config.daemonize && on_terminal) {
    return fail(
        "daemonize: a guest in the background has no terminal: give its serial port and console another "
        "place, "
        "for example --serial file:PATH or --serial none");
  }
  if (config.serial.kind == SerialConfig::Kind::stdio && config.console.kind == SerialConfig::Kind::stdio) {
    return fail(
        "serial and console cannot both be on stdio: give one another place, for example --serial none");
  }
  return {};
}

Result<void> check_labels(const VmmConfig& config) {
  if (config.labels.size() > kMaxLabels) {
    return fail(fmt::format("labels: {} are too many, {} are allowed", config.labels.size(), kMaxLabels));
  }
  for (const auto& [key, value] : config.labels) {
    if (!plain(key)) {
      return fail(
          fmt::format("label '{}': a key has 1 to {} characters of A-Z a-z 0-9 . _ -", key, kMaxName));
    }
    const bool printable = std::ranges::none_of(value, [](unsigned char c) { return c < 0x20 || c == 0x7f; });
    if (value.size() > kMaxLabelValue || !printable) {
      return fail(fmt::format("label '{}': a value has at most {} bytes and no control characters", key,
                              kMaxLabelValue));
    }
  }
  return {};
}

}  // namespace

Result<void> check_config(const VmmConfig& config) {
  if (config.name.empty()) return fail("name is missing: give the guest one");
  if (!plain(config.name)) {
    return fail(
        fmt::format("name: '{}' is not 1 to {} characters of A-Z a-z 0-9 . _ -", config.name, kMaxName));
  }
  BALLOON_TRY(check_memory(config));
  if (config.cpus < 1 || config.cpus > kMaxCpus) {
    return fail(fmt::format("cpus: {} is not within 1 to {}", config.cpus, kMaxCpus));
  }
  if (config.boot.kernel.empty()) return fail("kernel is missing: name a bzImage or an ELF vmlinux");
  if (config.boot.command_line.size() >= layout::kCommandLineMax) {
    return fail(fmt::format("cmdline: {} bytes are too many, {} are allowed", config.boot.command_line.size(),
                            layout::kCommandLineMax - 1));
  }
  BALLOON_TRY(check_devices(config));
  if (!config.link.empty()) BALLOON_TRY(check_socket("link", config.link));
  if (!config.monitor.empty()) BALLOON_TRY(check_socket("monitor", config.monitor));
  return check_labels(config);
}

namespace {

Result<void> apply_scalars(const Flags& flags, VmmConfig& config) {
  if (flags.name) config.name = *flags.name;
  if (flags.memory) {
    const auto memory = parse_bytes(*flags.memory);
    if (!memory) return fail("--memory", memory.error());
    config.memory = *memory;
  }
  if (flags.memory_backing) {
    if (const auto done = parse_memory_backing(*flags.memory_backing, config.memory_backing); !done)
      return fail("--memory-backing", done.error());
  }
  if (flags.cpus) {
    const std::string& text = *flags.cpus;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), config.cpus);
    if (error != std::errc{} || end != text.data() + text.size()) {
      return fail(fmt::format("--cpus: '{}' is not a whole number", text));
    }
  }
  if (flags.kernel) config.boot.kernel = *flags.kernel;
  if (flags.initrd) config.boot.initrd = *flags.initrd;
  if (flags.cmdline) config.boot.command_line = *flags.cmdline;
  if (flags.link) {
    config.link = *flags.link;
    BALLOON_TRY(check_socket("--link", config.link));
  }
  if (flags.monitor) {
    config.monitor = *flags.monitor;
    BALLOON_TRY(check_socket("--monitor", config.monitor));
  }
  if (flags.restore) config.restore = *flags.restore;
  if (flags.log_level) config.log_level = *flags.log_level;
  if (flags.no_reboot) config.reboot = false;
  if (flags.daemonize) config.daemonize = true;
  if (flags.pid_file) config.pid_file = *flags.pid_file;
  return {};
}

/// A list from flags takes the place of the file's.
template <typename T, typename Parse>
Result<void> apply_list(std::string_view flag, const std::vector<std::string>& texts, std::vector<T>& into,
                        Parse parse) {
  if (!texts.empty()) into.clear();
  for (const std::string& text : texts) {
    auto value = parse(text);
    if (!value) return fail(std::string(flag), value.error());
    into.push_back(std::move(*value));
  }
  return {};
}

Result<void> apply_devices(const Flags& flags, VmmConfig& config) {
  BALLOON_TRY(apply_list("--disk", flags.disks, config.disks, parse_disk));
  BALLOON_TRY(apply_list("--net", flags.nets, config.nets, parse_net));
  if (flags.serial) {
    auto serial = parse_serial(*flags.serial);
    if (!serial) return fail("--serial", serial.error());
    config.serial = std::move(*serial);
  }
  if (flags.console) {
    auto console = parse_serial(*flags.console);
    if (!console) return fail("--console", console.error());
    config.console = std::move(*console);
  }
  if (flags.rng) {
    auto rng = parse_rng(*flags.rng);
    if (!rng) return fail("--rng", rng.error());
    config.rng = *rng;
  }
  if (flags.virtio) {
    const auto virtio = parse_virtio(*flags.virtio);
    if (!virtio) return fail("--virtio", virtio.error());
    config.virtio = *virtio;
  }
  if (flags.balloon) {
    if (const auto done = parse_balloon(*flags.balloon, config.balloon); !done)
      return fail("--balloon", done.error());
  }
  for (const std::string& text : flags.labels) {
    const std::size_t equals = text.find('=');
    if (equals == std::string::npos) return fail(fmt::format("--label: '{}' is not key=value", text));
    config.labels[text.substr(0, equals)] = text.substr(equals + 1);
  }
  return {};
}

}  // namespace

Result<VmmConfig> make_config(const Flags& flags) {
  VmmConfig config;
  if (flags.config) {
    std::ifstream file(*flags.config, std::ios::binary);
    if (!file) return fail(fmt::format("--config: cannot read '{}'", *flags.config));
    const std::string text(std::istreambuf_iterator<char>(file), {});
    if (file.bad()) return fail(fmt::format("--config: cannot read '{}'", *flags.config));
    BALLOON_TRY(read_config(text, *flags.config, config));
  }
  BALLOON_TRY(apply_scalars(flags, config));
  BALLOON_TRY(apply_devices(flags, config));
  BALLOON_TRY(check_config(config));
  return config;
}

}  // namespace balloon::vmm
