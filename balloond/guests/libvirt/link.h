// SPDX-License-Identifier: Apache-2.0
// One connection to a libvirtd. Every call may take as long as that likes: they are made by callers
// (caller.h).
#pragma once

#include <libvirt/libvirt.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "balloond/guests/libvirt/figures.h"
#include "base/error.h"

namespace balloon::daemon::libvirt {

class Link {
 public:
  /// Something happened to a domain: look at it. Called by libvirt's own thread, and for as long as what it
  /// owns lives.
  struct Event {
    std::string uuid;
    bool rebooted = false;
  };
  using OnEvent = std::function<void(const Event&)>;

  /// Without `on_event` nothing is told.
  static Result<std::unique_ptr<Link>> open(const std::string& uri, const OnEvent& on_event = {});
  ~Link();
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  /// All running domains, in one call.
  Result<std::vector<Figures>> look();
  /// "QEMU 7.2.22", or what else it manages.
  std::string version() const;
  /// A domain's XML.
  Result<std::string> describe(const std::string& uuid) const;
  /// What is configured for its next start, whatever its balloon has now; nothing of one that is forgotten
  /// when it ends.
  Result<std::optional<std::string>> describe_next_start(const std::string& uuid) const;
  /// Whether libvirt migrates, saves, backs up or dumps it.
  Result<bool> has_job(const std::string& uuid);
  /// What it was asked for and does not know, and what that means; empty: nothing.
  const std::string& lack() const { return lack_; }
  /// What is to be left to the guest, in whole KiB. Returns when QEMU has been told.
  Result<void> set_target(const std::string& uuid, Bytes target) const;
  /// How often QEMU asks the guest for statistics.
  Result<void> set_period(const std::string& uuid, std::chrono::seconds period) const;
  bool alive() const;

 private:
  struct FreeDomain {
    void operator()(virDomain* domain) const { virDomainFree(domain); }
  };
  using Domain = std::unique_ptr<virDomain, FreeDomain>;

  Link() = default;
  void listen(const OnEvent& on_event);
  Result<Domain> domain(const std::string& uuid) const;
  Result<std::string> xml_of(const Domain& domain, unsigned flags) const;

  virConnect* connection_ = nullptr;
  std::vector<int> callbacks_;
  std::size_t way_ = 0;  ///< of looking at all domains: the best that its libvirt knows
  bool knows_jobs_ = true;
  std::string lack_;
};

}  // namespace balloon::daemon::libvirt
