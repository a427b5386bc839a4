// SPDX-License-Identifier: Apache-2.0
// Stands in for libvirt's client library (fake_libvirt.cc defines its functions), with domains as a test
// wants them and calls that hang or fail.
#pragma once

#include <libvirt/libvirt.h>

#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace balloon::daemon::libvirt {

struct FakeDomain {
  std::string name;
  std::string xml;
  std::string next_xml{};                    ///< what is configured for its next start
  bool persistent = true;                    ///< there is such a configuration
  std::vector<virTypedParameter> numbers{};  ///< its statistics
  int job = VIR_DOMAIN_JOB_NONE;
  unsigned long target_kib = 0;  ///< the newest that was set
  unsigned target_flags = 0;
  int period = 0;
};

/// Thread-safe, but for what is changed before anybody calls.
class FakeLibvirt {
 public:
  /// Another libvirtd, which `uri` leads to.
  static FakeLibvirt& anew();
  /// Null: there is none.
  static FakeLibvirt* behind(const std::string& uri);

  /// Changes what libvirt has, between its calls.
  void change(const std::function<void(FakeLibvirt&)>& what);
  /// Lets the calls of that function go on which hang.
  void release(const std::string& function);
  /// Waits until `is_so`, which looks at it; says whether it came to that.
  bool wait_for(const std::function<bool()>& is_so);
  /// Waits until so many calls of that function hang.
  bool wait_for_hanging(const std::string& function, int count);
  /// Tells who listens for this kind of event of the domain.
  void happen(int event, const std::string& uuid);
  int count(const std::string& function);

  std::string uri;
  std::map<std::string, FakeDomain> domains;  ///< by UUID
  std::set<std::string> hanging;              ///< functions whose calls do not return
  std::set<std::string> failing;              ///< functions that fail
  std::set<std::string> unknown;              ///< functions that it is too old for
  unsigned refused_flags = 0;                 ///< of a look, as an older libvirt
  unsigned refused_groups = 0;
  bool alive = true;  ///< connections work

  // What the functions do first: it counts the call, and lets it hang where it is to. Whether it succeeds.
  bool call(const std::string& function);

  struct Listener {
    int event = 0;
    virConnectDomainEventGenericCallback callback = nullptr;
    void* opaque = nullptr;
    virFreeCallback free = nullptr;
  };
  std::mutex mutex;
  std::condition_variable changed;
  std::map<std::string, int> calls;  ///< by function
  std::map<std::string, int> hang;   ///< now
  std::map<int, Listener> listeners;
  int connections = 0;  ///< open
  int keepalive_interval = 0;
  unsigned keepalive_count = 0;
};

virTypedParameter number(const char* field, unsigned long long value);

}  // namespace balloon::daemon::libvirt
