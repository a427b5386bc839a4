// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/kvm.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "vmm/kvm/list.h"

namespace balloon::vmm {
namespace {

struct Need {
  int capability;
  const char* name;
  const char* purpose;
};
constexpr Need kNeeds[] = {
    {KVM_CAP_USER_MEMORY, "USER_MEMORY", "guest memory"},
    {KVM_CAP_SET_TSS_ADDR, "SET_TSS_ADDR", "x86 guests"},
    {KVM_CAP_SET_IDENTITY_MAP_ADDR, "SET_IDENTITY_MAP_ADDR", "x86 guests"},
    {KVM_CAP_EXT_CPUID, "EXT_CPUID", "the guest's CPU model"},
    {KVM_CAP_IRQCHIP, "IRQCHIP", "interrupt controllers"},
    {KVM_CAP_PIT2, "PIT2", "the timer"},
    {KVM_CAP_IRQ_ROUTING, "IRQ_ROUTING", "MSI-X"},
    {KVM_CAP_IRQFD, "IRQFD", "interrupts"},
    {KVM_CAP_IOEVENTFD, "IOEVENTFD", "doorbells"},
    {KVM_CAP_IMMEDIATE_EXIT, "IMMEDIATE_EXIT", "stopping a vCPU"},
};

/// More than any CPU has (KVM_MAX_CPUID_ENTRIES in the kernel's asm/kvm_host.h).
constexpr std::uint32_t kMaxCpuidEntries = 256;

Result<UniqueFd> open_device(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (fd) return fd;
  const int error = errno;
  if (error == ENOENT) {
    return fail(
        fmt::format("{} does not exist: load the kernel's kvm-intel or kvm-amd module (and switch "
                    "virtualisation on in the "
                    "firmware, or nested virtualisation in the outer host)",
                    path));
  }
  if (error == EACCES || error == EPERM) {
    return fail(fmt::format(
        "no permission to open {}: run as root or as a member of its group (usually 'kvm')", path));
  }
  return fail_errno(fmt::format("opening {}", path), error);
}

}  // namespace

Result<Kvm> Kvm::open(const std::string& path) {
  auto fd = open_device(path);
  if (!fd) return std::unexpected(fd.error());
  Kvm kvm;
  kvm.fd_ = std::move(*fd);
  const int version = ::ioctl(kvm.fd(), KVM_GET_API_VERSION, 0);
  if (version != KVM_API_VERSION) {
    return fail(fmt::format("{} is not KVM, or its API version is not {}", path, KVM_API_VERSION));
  }
  const auto check = [&](int capability) { return ::ioctl(kvm.fd(), KVM_CHECK_EXTENSION, capability); };
  for (const Need& need : kNeeds) {
    if (check(need.capability) <= 0) {
      return fail(fmt::format("this host's KVM lacks KVM_CAP_{}, needed for {}: use a newer kernel",
                              need.name, need.purpose));
    }
  }
  kvm.tsc_deadline_timer_ = check(KVM_CAP_TSC_DEADLINE_TIMER) > 0;
  kvm.max_vcpus_ = static_cast<std::uint32_t>(std::max(1, check(KVM_CAP_MAX_VCPUS)));
  const int run_size = ::ioctl(kvm.fd(), KVM_GET_VCPU_MMAP_SIZE, 0);
  if (run_size < static_cast<int>(sizeof(kvm_run)))
    return fail_errno("asking KVM for its vCPU area's size", errno);
  kvm.run_size_ = static_cast<std::size_t>(run_size);
  return kvm;
}

Result<std::vector<kvm_cpuid_entry2>> Kvm::supported_cpuid() const {
  KvmList<kvm_cpuid_entry2> list(kMaxCpuidEntries);
  if (::ioctl(fd(), kKvmGetSupportedCpuid, list.data()) != 0) {
    return fail_errno("asking KVM for the supported CPUID", errno);
  }
  return list.entries();
}

int Kvm::check(int capability) const { return ::ioctl(fd(), KVM_CHECK_EXTENSION, capability); }

Result<std::vector<std::uint32_t>> Kvm::state_msrs() const {
  // A count, then the indices. A first call with too small a count fails with E2BIG and says how many there
  // are.
  std::vector<std::uint32_t> list(1);
  if (::ioctl(fd(), kKvmGetMsrIndexList, list.data()) != 0 && errno != E2BIG) {
    return fail_errno("asking KVM how many MSRs hold a vCPU's state", errno);
  }
  list.resize(1 + std::size_t{list[0]});
  if (::ioctl(fd(), kKvmGetMsrIndexList, list.data()) != 0)
    return fail_errno("asking KVM which MSRs hold a vCPU's state", errno);
  list.erase(list.begin());
  return list;
}

}  // namespace balloon::vmm
