// SPDX-License-Identifier: Apache-2.0
#include "balloond/host/own_cgroup.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "balloond/host/pressure.h"
#include "balloond/host/process.h"

namespace balloon::daemon {
namespace {

/// Where systemd has the unified hierarchy.
constexpr std::string_view kMount = "/sys/fs/cgroup";

/// Of the lines of /proc/PID/cgroup the unified hierarchy's: "0::/machine.slice/web-1.service".
std::string_view unified_path(std::string_view membership) {
  constexpr std::string_view kPrefix = "0::";
  for (std::size_t at = 0; at < membership.size();) {
    const std::size_t end = std::min(membership.find('\n', at), membership.size());
    const std::string_view line = membership.substr(at, end - at);
    if (line.starts_with(kPrefix)) return line.substr(kPrefix.size());
    at = end + 1;
  }
  return {};
}

/// Not the root, which is nobody's own, and nothing outside of the cgroup namespace that the daemon is in
/// ("/../other").
bool is_usable(std::string_view path) {
  return path.size() > 1 && path.starts_with('/') && path.find("/..") == std::string_view::npos;
}

std::string_view trimmed(std::string_view text) {
  const std::size_t last = text.find_last_not_of(" \n");
  return last == std::string_view::npos ? std::string_view() : text.substr(0, last + 1);
}

std::string type_of(const std::string& directory) {
  ReadBuffer buffer;
  const PseudoFile type(directory + "/cgroup.type");
  const auto text = type.read(buffer);
  return std::string(trimmed(text.value_or("")));
}

}  // namespace

OwnCgroup::Files::Files(const std::string& directory)
    : processes(directory + "/cgroup.procs"),
      tree(directory + "/cgroup.stat"),
      stat(directory + "/memory.stat"),
      pressure(directory + "/memory.pressure"),
      swap(directory + "/memory.swap.current"),
      threaded(type_of(directory) == "domain threaded") {}

OwnCgroup::OwnCgroup(std::string root, pid_t pid)
    : root_(std::move(root)),
      pid_(fmt::format("{}", pid)),
      membership_(fmt::format("{}/proc/{}/cgroup", root_, pid)) {}

std::optional<CgroupMemory> OwnCgroup::sample() {
  ReadBuffer buffer;
  if (!follow(buffer) || !alone(buffer)) return std::nullopt;
  const auto stat = files_->stat.read(buffer);
  if (!stat) {  // without the memory controller; or the cgroup is gone, and its process is in another one
    path_.clear();
    files_.reset();
    return std::nullopt;
  }
  CgroupMemory memory;
  const auto anonymous = number_after(*stat, "workingset_refault_anon");
  const auto file = number_after(*stat, "workingset_refault_file");
  if (anonymous || file) memory.refaults = anonymous.value_or(0) + file.value_or(0);
  // Linux 6.12 and later count what comes from swap; before, what comes back that was there before is the
  // same but for pages that were forgotten.
  const auto pages = number_after(*stat, "pswpin");
  if (pages || anonymous) memory.swap_in = pages.value_or(anonymous.value_or(0)) * page_size();

  if (const auto swap = files_->swap.read(buffer)) {
    std::uint64_t swapped = 0;
    std::from_chars(swap->data(), swap->data() + swap->size(), swapped);
    memory.swapped = Bytes{swapped};
  }
  // With psi=0, or cgroup.pressure 0, the file cannot be opened or read.
  if (const auto pressure = files_->pressure.read(buffer))
    memory.pressure_some = parse_pressure(*pressure, "some ").avg10;
  return memory;
}

/// Whether the files of the cgroup that the process is in have been open for a sample already.
bool OwnCgroup::follow(ReadBuffer& buffer) {
  const auto membership = membership_.read(buffer);
  if (!membership) return false;
  const std::string_view path = unified_path(*membership);
  if (path == path_) return files_.has_value();
  files_.reset();
  path_ = path;
  if (is_usable(path)) enter(path_);
  return false;
}

/// A process whose threads are spread over cgroups of their own (libvirt) is counted in the nearest one above
/// them that counts memory.
void OwnCgroup::enter(std::string_view path) {
  std::string directory = fmt::format("{}{}{}", root_, kMount, path);
  const std::size_t top = root_.size() + kMount.size();
  while (directory.size() > top && type_of(directory) == "threaded") directory.resize(directory.rfind('/'));
  if (directory.size() <= top) return;
  Files files(directory);
  if (files.stat.is_open()) files_ = std::move(files);
}

/// KVM and vhost start kernel threads for a guest, and put them into its VMM's cgroup (Linux 6.1,
/// virt/kvm/kvm_main.c, kvm_vm_worker_thread(); drivers/vhost/vhost.c, vhost_attach_cgroups()).
bool OwnCgroup::has_only_kernel_threads_beside(std::string_view processes) const {
  bool found = false;
  while (!processes.empty()) {
    const std::size_t end = std::min(processes.find('\n'), processes.size());
    const std::string_view process = processes.substr(0, end);
    processes.remove_prefix(std::min(end + 1, processes.size()));
    if (process == pid_) {
      found = true;
      continue;
    }
    pid_t pid = 0;
    std::from_chars(process.data(), process.data() + process.size(), pid);
    if (!is_kernel_thread(root_, pid)) return false;
  }
  return found;
}

bool OwnCgroup::alone(ReadBuffer& buffer) {
  const auto processes = files_->processes.read(buffer);
  if (!processes) return false;
  const std::string_view members = trimmed(*processes);
  if (members != pid_ && (members.empty() || members != judged_)) {
    if (!has_only_kernel_threads_beside(members)) return false;
    judged_ = members;
  }
  if (files_->threaded) return true;
  const auto tree = files_->tree.read(buffer);
  return tree && number_after(*tree, "nr_descendants").value_or(1) == 0;
}

}  // namespace balloon::daemon
