// SPDX-License-Identifier: Apache-2.0
// The seam between balloond and its backend for libvirt, which is a library of its own (the Debian package
// balloond-libvirt): a host without libvirt has neither that code nor libvirt's client library.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "balloond/config/libvirt_config.h"
#include "balloond/guests/backend.h"
#include "balloond/guests/backend_counters.h"
#include "base/error.h"

namespace balloon::daemon::libvirt {

/// Manages the guests of some libvirtds, in a thread of its own, from its making to its end. Balloons stay.
class Runner {
 public:
  virtual ~Runner() = default;
  /// From now on those of these and no others. Any thread but its own.
  virtual void manage(std::vector<LibvirtHost> hosts, std::chrono::nanoseconds stats_interval) = 0;
};

/// What the library exports, as kModuleSymbol.
struct Module {
  /// Of the balloond that it belongs to. The first member of every version: it says whether the others are to
  /// be understood.
  const char* version;
  Result<std::unique_ptr<Runner>> (*start)(const Clock& clock, GuestEvents& guests, BackendHealth& health);
};
inline constexpr const char* kModuleSymbol = "balloond_libvirt";

/// Where it is: in ../lib/balloond as seen from the program, installed or just built.
std::string module_path();

/// Loads it; it stays as long as the process. A failure says which package is missing.
Result<const Module*> load_module(const std::string& path = module_path());

}  // namespace balloon::daemon::libvirt
