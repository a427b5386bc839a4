// SPDX-License-Identifier: Apache-2.0
#include "balloond/ctl/host_check_platform.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <fstream>
#include <iterator>
#include <sstream>

#include "base/bytes.h"
#include "base/other_controllers.h"

namespace balloon::ctl {
namespace {

using State = Check::State;

/// The kernel's own names of clocks that are read without leaving the guest (or the program).
constexpr std::array<std::string_view, 3> kFastClocks = {"tsc", "kvm-clock", "hyperv_clocksource_tsc_page"};

/// Proxmox VE bounds the ARC of new installations to a tenth of the host.
constexpr unsigned kArcPartThatIsSmall = 8;

Check clock(const HostView& host) {
  const auto source = read_file(host, "/sys/devices/system/clocksource/clocksource0/current_clocksource");
  if (!source) return {"TSC", State::note, "the kernel names no clock source", "nothing to do"};
  for (const std::string_view fast : kFastClocks)
    if (*source == fast) return {"TSC", State::ok, "the clock source is " + *source, ""};
  return {"TSC", State::note, "the clock source is " + *source,
          "guests then leave for the host each time they read the clock (kvm-clock needs the host's TSC): "
          "dmesg | grep -i tsc says why the kernel left it; where the firmware keeps the TSCs in step, boot "
          "with tsc=reliable"};
}

Check nested(const HostView& host) {
  const std::string cpu = read_file(host, "/proc/cpuinfo").value_or("");
  const std::string where =
      cpu.find(" hypervisor") != std::string::npos ? "; this host is a guest itself" : "";
  for (const char* module : {"kvm_intel", "kvm_amd"}) {
    const auto nested = read_file(host, fmt::format("/sys/module/{}/parameters/nested", module));
    if (!nested) continue;
    if (*nested != "Y" && *nested != "1")
      return {"nested", State::ok, "off in " + std::string(module) + where, ""};
    return {"nested", State::note, fmt::format("on in {}{}", module, where),
            fmt::format(
                "guests can run guests of their own, through much more of KVM's code; where none needs it: "
                "echo options {} nested=0 >/etc/modprobe.d/kvm-nested.conf, and load the module again",
                module)};
  }
  return {"nested", State::ok, "no KVM module with this switch" + where, ""};
}

Check cgroups(const HostView& host) {
  const auto controllers = read_file(host, "/sys/fs/cgroup/cgroup.controllers");
  if (!controllers) {
    return {"cgroup", State::note, "no version 2 at /sys/fs/cgroup",
            "balloond then does not see whether a guest waits for the host's memory: boot with "
            "systemd.unified_cgroup_hierarchy=1"};
  }
  if ((" " + *controllers + " ").find(" memory ") != std::string::npos)
    return {"cgroup", State::ok, "version 2, with memory", ""};
  return {"cgroup", State::note, "version 2, without memory",
          "balloond then does not see whether a guest waits for the host's memory: boot with "
          "cgroup_enable=memory"};
}

/// How many the kernel's list of ranges names: "0-1,4".
std::uint64_t count_of(std::string_view list) {
  std::uint64_t count = 0;
  const char* at = list.data();
  const char* const end = at + list.size();
  while (at < end) {
    std::uint32_t first = 0;
    auto [next, error] = std::from_chars(at, end, first);
    if (error != std::errc()) break;
    std::uint32_t last = first;
    if (next < end && *next == '-') next = std::from_chars(next + 1, end, last).ptr;
    if (last >= first) count += last - first + 1ULL;
    at = next + 1;
  }
  return count;
}

Check numa(const HostView& host) {
  const auto nodes = read_file(host, "/sys/devices/system/node/online");
  const std::uint64_t count = nodes ? count_of(*nodes) : 1;
  if (count <= 1) return {"NUMA", State::ok, "one node", ""};
  return {"NUMA", State::note, fmt::format("{} nodes", count),
          "balloond has one budget for all of them: a guest that is bound to a node (numactl, libvirt's "
          "numatune) "
          "can be short of memory while another node has some; leave guests unbound"};
}

/// A value of ZFS' arcstats, whose lines are a name, a type and the value; 0 when there is none.
Bytes arc_value(const std::string& stats, std::string_view wanted) {
  std::istringstream lines(stats);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream fields(line);
    std::string name;
    std::string type;
    std::uint64_t value = 0;
    if (fields >> name >> type >> value && name == wanted) return Bytes{value};
  }
  return Bytes{0};
}

/// What the ARC may grow to is memory that no guest can count on.
Check zfs(const HostView& host) {
  const auto stats = read_file(host, "/proc/spl/kstat/zfs/arcstats");
  if (!stats) return {"ZFS", State::ok, "not in use", ""};
  const Bytes most = arc_value(*stats, "c_max");
  const Bytes total = number_in(read_file(host, "/proc/meminfo").value_or(""), "MemTotal:") * kKiB;
  const std::string found =
      fmt::format("ARC of {}, at most {}", format_bytes(arc_value(*stats, "size")), format_bytes(most));
  if (most <= total / kArcPartThatIsSmall) return {"ZFS", State::ok, found, ""};
  return {
      "ZFS", State::note, found,
      "the kernel counts the ARC as used, so that guests have less the more it grows: bound it (echo BYTES "
      ">/sys/module/zfs/parameters/zfs_arc_max, and options zfs zfs_arc_max=BYTES in /etc/modprobe.d)"};
}

Check others(const HostView& host) {
  const auto found = other_controllers(host.root);
  if (found.empty()) return {"others", State::ok, "no other known controller runs", ""};
  std::string names;
  std::string advice;
  for (const OtherController& other : found) {
    names += fmt::format("{}{} (process {})", names.empty() ? "" : ", ", other.name, other.pid);
    advice += fmt::format("{}{} {}: {}", advice.empty() ? "" : "; ", other.name,
                          other.moves_balloons ? "moves balloons" : "runs KSM", other.advice);
  }
  return {"others", State::note, names, advice};
}

}  // namespace

std::optional<std::string> read_file(const HostView& host, const std::string& path) {
  std::ifstream file(host.root + path, std::ios::binary);
  if (!file) return std::nullopt;
  std::string text(std::istreambuf_iterator<char>(file), {});
  // Pressure files open when PSI is off, and fail to be read.
  if (file.bad() || text.empty()) return std::nullopt;
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

std::uint64_t number_in(const std::string& text, std::string_view key) {
  const std::size_t at = text.find(key);
  if (at == std::string::npos) return 0;
  std::uint64_t value = 0;
  const std::size_t digits = text.find_first_of("0123456789", at + key.size());
  if (digits != std::string::npos) std::from_chars(text.data() + digits, text.data() + text.size(), value);
  return value;
}

std::vector<Check> platform_checks(const HostView& host) {
  return {clock(host), nested(host), cgroups(host), numa(host), zfs(host), others(host)};
}

}  // namespace balloon::ctl
