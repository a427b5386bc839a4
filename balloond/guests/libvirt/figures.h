// SPDX-License-Identifier: Apache-2.0
// What libvirt's bulk statistics say of one domain, in the units used everywhere here: bytes, and sizes that
// are left to the guest. Pure.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "balloond/guests/guest.h"

namespace balloon::daemon::libvirt {

/// The numbers of one record of virConnectGetAllDomainStats, by their names. What is negative is left out.
using Numbers = std::map<std::string, std::uint64_t, std::less<>>;

struct Figures {
  std::string uuid;
  std::string name;
  int state = 0;                 ///< virDomainState
  bool starting = false;         ///< its process may not be there yet
  std::optional<Bytes> actual;   ///< as libvirt knows it by the newest event of QEMU
  std::optional<Bytes> maximum;  ///< boot memory and memory devices
  std::uint32_t vcpus = 0;
  /// libvirt could ask QEMU: no other call holds the domain.
  bool asked = false;
  /// In full seconds, by the host's clock; unset: the guest has sent no statistics since QEMU started.
  std::optional<std::chrono::seconds> updated_at;
  StatsSample sample;  ///< without its time, and its size as `actual`
};

Figures read_figures(std::string uuid, std::string name, const Numbers& numbers);

}  // namespace balloon::daemon::libvirt
