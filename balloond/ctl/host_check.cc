// SPDX-License-Identifier: Apache-2.0
#include "balloond/ctl/host_check.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/ethtool.h>
#include <linux/kvm.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <sstream>

#include "balloond/ctl/host_check_platform.h"
#include "balloond/ctl/table.h"
#include "base/bytes.h"
#include "base/unique_fd.h"

namespace balloon::ctl {
namespace {

using State = Check::State;

constexpr const char* kKvm = "/dev/kvm";
constexpr int kKvmApiVersion = 12;  // Documentation/virt/kvm/api.rst: "stable since 2.6.22"

int probe_device(const std::string& device) {
  const UniqueFd fd(::open(device.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd) return errno;
  if (device == kKvm && ::ioctl(fd.get(), KVM_GET_API_VERSION, 0) != kKvmApiVersion) return ENOTTY;
  return 0;
}

std::optional<bool> ask_offload(const std::string& interface, unsigned command) {
  const UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket || interface.size() >= IFNAMSIZ) return std::nullopt;
  ethtool_value value{.cmd = command, .data = 0};
  ifreq request = {};
  std::memcpy(request.ifr_name, interface.data(), interface.size());
  request.ifr_data = reinterpret_cast<char*>(&value);
  if (::ioctl(socket.get(), SIOCETHTOOL, &request) != 0) return std::nullopt;
  return value.data != 0;
}

/// "always [madvise] never": what stands in brackets.
std::string chosen(const std::string& text) {
  const std::size_t open = text.find('[');
  const std::size_t close = text.find(']', open);
  return open == std::string::npos || close == std::string::npos ? text
                                                                 : text.substr(open + 1, close - open - 1);
}

Check device(const HostView& host, const char* name, const std::string& path, State when_absent,
             const std::string& when_absent_do, const std::string& otherwise_do) {
  const int error = host.probe(path);
  if (error == 0) return {name, State::ok, path + " is usable", ""};
  const std::string found = fmt::format("{}: {}", path, std::strerror(error));
  const bool absent = error == ENOENT || error == ENODEV || error == ENXIO;
  return {name, when_absent, found, absent ? when_absent_do : otherwise_do};
}

std::vector<Check> devices(const HostView& host) {
  return {
      device(host, "KVM", kKvm, State::problem,
             "load kvm-intel or kvm-amd; if that fails, switch virtualisation on in the firmware, or nested "
             "virtualisation in the hypervisor above",
             "let the VMM's user read and write it: add it to the group kvm"),
      device(host, "tun", "/dev/net/tun", State::problem,
             "load tun (modprobe tun); without it guests have no network",
             "let the VMM's user read and write it, or pass it taps that are open already (fds)"),
      device(host, "vhost-net", "/dev/vhost-net", State::note,
             "load vhost_net (modprobe vhost_net) for guests with vhost: on; without it their VMM moves the "
             "frames",
             "let the VMM's user read and write it (group kvm), or pass it open (vhost_fds)")};
}

Check ksm(const HostView& host) {
  const auto run = read_file(host, "/sys/kernel/mm/ksm/run");
  if (!run)
    return {"KSM", State::note, "this kernel has none",
            "equal pages of guests are not shared; nothing to do"};
  if (*run == "1") {
    const auto sharing = read_file(host, "/sys/kernel/mm/ksm/pages_sharing");
    return {"KSM", State::ok, fmt::format("on, {} pages saved", sharing.value_or("?")), ""};
  }
  return {
      "KSM", State::note, "off",
      "guests with mergeable memory could share equal pages, for some CPU time and a side channel between "
      "guests: ksm: on under host in balloond's policy, or echo 1 >/sys/kernel/mm/ksm/run"};
}

Check pressure(const HostView& host) {
  if (read_file(host, "/proc/pressure/memory")) return {"PSI", State::ok, "memory pressure is reported", ""};
  return {"PSI", State::problem, "no /proc/pressure/memory",
          "boot with psi=1 (a kernel with CONFIG_PSI): without it balloond learns of pressure only when it "
          "looks"};
}

Check swap(const HostView& host) {
  const auto swaps = read_file(host, "/proc/swaps");
  std::istringstream lines(swaps.value_or(""));
  std::string line;
  std::getline(lines, line);  // the heading
  Bytes size{};
  Bytes compressed{};
  while (std::getline(lines, line)) {
    std::istringstream fields(line);
    std::string name;
    std::string type;
    std::uint64_t kib = 0;
    if (!(fields >> name >> type >> kib)) continue;
    size += kib * kKiB;
    if (name.find("zram") != std::string::npos) compressed += kib * kKiB;
  }
  if (size == Bytes{0}) {
    return {"swap", State::problem, "none",
            "give the host swap, as much as the guests' guaranteed minimums may grow at once: it keeps the "
            "host alive "
            "while balloons free memory"};
  }
  if (size == compressed) {
    return {"swap", State::note, format_bytes(size) + ", all of it zram",
            "it takes memory when memory is short; add some on a disk"};
  }
  return {"swap", State::ok, format_bytes(size), ""};
}

Check overcommit(const HostView& host) {
  const auto mode = read_file(host, "/proc/sys/vm/overcommit_memory");
  if (mode != "2")
    return {"overcommit", State::ok, "vm.overcommit_memory is " + mode.value_or("unknown"), ""};
  return {"overcommit", State::problem, "vm.overcommit_memory is 2",
          "the kernel then refuses guests whose memory exceeds the host's on paper: sysctl "
          "vm.overcommit_memory=0"};
}

Check huge_pages(const HostView& host) {
  const std::string info = read_file(host, "/proc/meminfo").value_or("");
  const std::uint64_t total = number_in(info, "HugePages_Total:");
  if (total == 0) return {"huge pages", State::ok, "none set aside", ""};
  const Bytes page = number_in(info, "Hugepagesize:") * kKiB;
  return {"huge pages", State::note,
          fmt::format("{} set aside, {} of them free", format_bytes(total * page),
                      format_bytes(number_in(info, "HugePages_Free:") * page)),
          "only guests backed by them (hugetlb) can use them, and balloons give them back only whole; set "
          "back what no "
          "guest needs: sysctl vm.nr_hugepages=0"};
}

std::vector<Check> transparent_huge_pages(const HostView& host) {
  const auto enabled = read_file(host, "/sys/kernel/mm/transparent_hugepage/enabled");
  if (!enabled)
    return {{"THP", State::note, "this kernel has none", "guests' page faults are slower; nothing to do"}};
  std::vector<Check> checks;
  const std::string when = chosen(*enabled);
  if (when == "never") {
    checks.push_back(
        {"THP", State::note, when,
         "guests then fault 4 KiB at a time: echo madvise >/sys/kernel/mm/transparent_hugepage/enabled"});
  } else {
    checks.push_back({"THP", State::ok, when, ""});
  }
  const auto defrag =
      chosen(read_file(host, "/sys/kernel/mm/transparent_hugepage/defrag").value_or("unknown"));
  if (defrag == "always" || defrag == "madvise" || defrag == "defer+madvise") {
    checks.push_back(
        {"THP defrag", State::note, defrag,
         "on a host that is nearly full a guest's fault then first moves other guests' pages together: "
         "echo defer >/sys/kernel/mm/transparent_hugepage/defrag"});
  } else {
    checks.push_back({"THP defrag", State::ok, defrag, ""});
  }
  return checks;
}

/// The interface of the default route, from /proc/net/route.
std::optional<std::string> default_interface(const HostView& host) {
  std::istringstream lines(read_file(host, "/proc/net/route").value_or(""));
  std::string line;
  while (std::getline(lines, line)) {
    std::istringstream fields(line);
    std::string interface;
    std::string destination;
    if (fields >> interface >> destination && destination == "00000000") return interface;
  }
  return std::nullopt;
}

Check offloads(const HostView& host) {
  const auto interface = host.interface ? host.interface : default_interface(host);
  if (!interface) {
    return {"offloads", State::note, "no default route",
            "name the interface that guests reach the network by: --interface NAME"};
  }
  struct Offload {
    unsigned command;
    const char* name;  ///< as ethtool -K calls it
  };
  constexpr std::array kOffloads = {Offload{ETHTOOL_GTXCSUM, "tx"}, Offload{ETHTOOL_GSG, "sg"},
                                    Offload{ETHTOOL_GTSO, "tso"}, Offload{ETHTOOL_GGSO, "gso"},
                                    Offload{ETHTOOL_GGRO, "gro"}};
  std::string on;
  std::string off;
  std::string command;
  for (const Offload& offload : kOffloads) {
    const auto state = host.offload(*interface, offload.command);
    if (!state) continue;
    std::string& names = *state ? on : off;
    names += fmt::format("{}{}", names.empty() ? "" : ", ", offload.name);
    if (!*state) command += fmt::format(" {} on", offload.name);
  }
  if (on.empty() && off.empty()) {
    return {"offloads", State::note, fmt::format("{}: no such interface, or it tells nothing", *interface),
            "name the interface that guests reach the network by: --interface NAME"};
  }
  if (off.empty()) return {"offloads", State::ok, fmt::format("{}: {}", *interface, on), ""};
  return {
      "offloads", State::note, fmt::format("{}: off: {}", *interface, off),
      fmt::format("guests' large frames are then cut up by the CPU: ethtool -K {}{}", *interface, command)};
}

const char* word(State state) {
  switch (state) {
    case State::ok:
      return "ok";
    case State::note:
      return "note";
    case State::problem:
      return "problem";
  }
  return "problem";
}

}  // namespace

HostView HostView::real() {
  return {.root = "", .probe = probe_device, .offload = ask_offload, .interface = std::nullopt};
}

std::vector<Check> check_host(const HostView& host) {
  std::vector<Check> checks = devices(host);
  checks.push_back(ksm(host));
  checks.push_back(pressure(host));
  checks.push_back(swap(host));
  checks.push_back(overcommit(host));
  checks.push_back(huge_pages(host));
  const auto transparent = transparent_huge_pages(host);
  checks.insert(checks.end(), transparent.begin(), transparent.end());
  checks.push_back(offloads(host));
  const auto platform = platform_checks(host);
  checks.insert(checks.end(), platform.begin(), platform.end());
  return checks;
}

bool has_problem(const std::vector<Check>& checks) {
  return std::ranges::any_of(checks, [](const Check& check) { return check.state == State::problem; });
}

std::string check_table(const std::vector<Check>& checks, const Terminal& terminal) {
  constexpr unsigned kIndent = 21;
  std::string text;
  for (const Check& check : checks) {
    text += fmt::format("{:<8} {:<11} {}\n", word(check.state), check.name,
                        wrap(check.found, terminal.columns, kIndent));
    if (!check.advice.empty())
      text += fmt::format("{:<20} {}\n", "", wrap(check.advice, terminal.columns, kIndent));
  }
  // On a small terminal the first lines have gone by.
  std::string problems;
  for (const Check& check : checks)
    if (check.state == State::problem) problems += (problems.empty() ? "" : ", ") + check.name;
  if (!problems.empty()) text += fmt::format("{}\n", wrap("Problems: " + problems, terminal.columns));
  return text;
}

nlohmann::ordered_json json_of(const std::vector<Check>& checks) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const Check& check : checks) {
    list.push_back({{"name", check.name},
                    {"state", word(check.state)},
                    {"found", check.found},
                    {"advice", check.advice}});
  }
  return {{"checks", list}, {"ok", !has_problem(checks)}};
}

}  // namespace balloon::ctl
