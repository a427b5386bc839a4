// SPDX-License-Identifier: Apache-2.0
// /dev/kvm: is it there, may we use it, can it do what we need.
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"

namespace balloon::vmm {

class Kvm {
 public:
  /// Fails with what to do when the device is absent, closed to us, or too old.
  static Result<Kvm> open(const std::string& path = "/dev/kvm");

  int fd() const { return fd_.get(); }
  bool has_tsc_deadline_timer() const { return tsc_deadline_timer_; }
  std::uint32_t max_vcpus() const { return max_vcpus_; }
  /// Size of the structure that each vCPU shares with the kernel.
  std::size_t run_size() const { return run_size_; }
  Result<std::vector<kvm_cpuid_entry2>> supported_cpuid() const;
  /// The MSRs that hold a vCPU's state on this host.
  Result<std::vector<std::uint32_t>> state_msrs() const;
  int check(int capability) const;

 private:
  Kvm() = default;
  UniqueFd fd_;
  bool tsc_deadline_timer_ = false;
  std::uint32_t max_vcpus_ = 1;
  std::size_t run_size_ = 0;
};

}  // namespace balloon::vmm
