// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/balloond/guests/libvirt/fake_libvirt.h"

#include <libvirt/virterror.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <list>

#include "tests/unit/balloond/guests/patience.h"

using balloon::daemon::libvirt::FakeDomain;
using balloon::daemon::libvirt::FakeLibvirt;

struct _virConnect {
  FakeLibvirt& libvirt;
};
struct _virDomain {
  FakeLibvirt& libvirt;
  std::string uuid;
  std::string name;
};

namespace balloon::daemon::libvirt {
namespace {

/// They are never gone: a call to one that a test is done with may still be under way.
std::list<FakeLibvirt>& all() {
  static std::list<FakeLibvirt> all;
  return all;
}
std::mutex all_mutex;

/// Of this thread's newest call, if that failed.
thread_local int newest_error = VIR_ERR_INTERNAL_ERROR;

/// As what it was registered.
template <typename Callback>
Callback as(virConnectDomainEventGenericCallback callback) {
  return reinterpret_cast<Callback>(reinterpret_cast<void (*)()>(callback));
}

}  // namespace

FakeLibvirt& FakeLibvirt::anew() {
  const std::lock_guard lock(all_mutex);
  FakeLibvirt& one = all().emplace_back();
  one.uri = "qemu:///" + std::to_string(all().size());
  return one;
}

FakeLibvirt* FakeLibvirt::behind(const std::string& uri) {
  const std::lock_guard lock(all_mutex);
  const auto found = std::ranges::find(all(), uri, &FakeLibvirt::uri);
  return found == all().end() ? nullptr : &*found;
}

void FakeLibvirt::change(const std::function<void(FakeLibvirt&)>& what) {
  {
    const std::lock_guard lock(mutex);
    what(*this);
  }
  changed.notify_all();
}

void FakeLibvirt::release(const std::string& function) {
  {
    const std::lock_guard lock(mutex);
    hanging.erase(function);
  }
  changed.notify_all();
}

bool FakeLibvirt::wait_for(const std::function<bool()>& is_so) {
  std::unique_lock lock(mutex);
  return changed.wait_for(lock, test::kPatience, is_so);
}

bool FakeLibvirt::wait_for_hanging(const std::string& function, int count) {
  return wait_for([&] { return hang[function] >= count; });
}

void FakeLibvirt::happen(int event, const std::string& uuid) {
  std::vector<Listener> told;
  {
    const std::lock_guard lock(mutex);
    for (const auto& [id, listener] : listeners) {
      if (listener.event == event) told.push_back(listener);
    }
  }
  virDomain domain{.libvirt = *this, .uuid = uuid, .name = {}};
  for (const Listener& listener : told) {
    if (event == VIR_DOMAIN_EVENT_ID_LIFECYCLE) {
      as<virConnectDomainEventCallback>(listener.callback)(nullptr, &domain, 0, 0, listener.opaque);
    } else if (event == VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE) {
      as<virConnectDomainEventBalloonChangeCallback>(listener.callback)(nullptr, &domain, 0, listener.opaque);
    } else {
      listener.callback(nullptr, &domain, listener.opaque);
    }
  }
}

int FakeLibvirt::count(const std::string& function) {
  const std::lock_guard lock(mutex);
  return calls[function];
}

bool FakeLibvirt::call(const std::string& function) {
  std::unique_lock lock(mutex);
  ++calls[function];
  ++hang[function];
  changed.notify_all();
  changed.wait(lock, [&] { return !hanging.contains(function); });
  --hang[function];
  changed.notify_all();
  newest_error = unknown.contains(function) ? VIR_ERR_NO_SUPPORT : VIR_ERR_INTERNAL_ERROR;
  return !failing.contains(function) && !unknown.contains(function);
}

virTypedParameter number(const char* field, unsigned long long value) {
  virTypedParameter parameter{};
  std::strncpy(parameter.field, field, sizeof parameter.field - 1);
  parameter.type = VIR_TYPED_PARAM_ULLONG;
  parameter.value.ul = value;
  return parameter;
}

}  // namespace balloon::daemon::libvirt

using balloon::daemon::libvirt::newest_error;

extern "C" {

const char* virGetLastErrorMessage(void) {
  return newest_error == VIR_ERR_INTERNAL_ERROR ? "it\nfails" : "it is unknown here";
}

int virGetLastErrorCode(void) { return newest_error; }

virConnectPtr virConnectOpen(const char* uri) {
  FakeLibvirt* const libvirt = FakeLibvirt::behind(uri);
  if (libvirt == nullptr || !libvirt->call("open")) return nullptr;
  libvirt->change([](FakeLibvirt& it) { ++it.connections; });
  return new virConnect{.libvirt = *libvirt};
}

int virConnectClose(virConnectPtr connection) {
  FakeLibvirt& libvirt = connection->libvirt;
  libvirt.call("close");
  libvirt.change([](FakeLibvirt& it) { --it.connections; });
  delete connection;
  return 0;
}

int virConnectSetKeepAlive(virConnectPtr connection, int interval, unsigned count) {
  connection->libvirt.change([&](FakeLibvirt& it) {
    it.keepalive_interval = interval;
    it.keepalive_count = count;
  });
  return 0;
}

int virConnectIsAlive(virConnectPtr connection) {
  FakeLibvirt& libvirt = connection->libvirt;
  const std::lock_guard lock(libvirt.mutex);
  return libvirt.alive ? 1 : 0;
}

int virConnectDomainEventRegisterAny(virConnectPtr connection, virDomainPtr, int event,
                                     virConnectDomainEventGenericCallback callback, void* opaque,
                                     virFreeCallback free) {
  FakeLibvirt& libvirt = connection->libvirt;
  if (!libvirt.call("register")) return -1;
  const std::lock_guard lock(libvirt.mutex);
  const int id = libvirt.calls["register"];
  libvirt.listeners[id] = {.event = event, .callback = callback, .opaque = opaque, .free = free};
  return id;
}

int virConnectDomainEventDeregisterAny(virConnectPtr connection, int id) {
  FakeLibvirt& libvirt = connection->libvirt;
  const std::lock_guard lock(libvirt.mutex);
  const auto listener = libvirt.listeners.extract(id);
  if (!listener) return -1;
  listener.mapped().free(listener.mapped().opaque);
  return 0;
}

const char* virConnectGetType(virConnectPtr connection) {
  return connection->libvirt.call("type") ? "QEMU" : nullptr;
}

int virConnectGetVersion(virConnectPtr connection, unsigned long* version) {
  if (!connection->libvirt.call("version")) return -1;
  *version = 7'002'022;
  return 0;
}

int virConnectGetAllDomainStats(virConnectPtr connection, unsigned groups, virDomainStatsRecordPtr** records,
                                unsigned flags) {
  FakeLibvirt& libvirt = connection->libvirt;
  if (!libvirt.call("look")) return -1;
  const std::lock_guard lock(libvirt.mutex);
  if ((flags & libvirt.refused_flags) != 0 || (groups & libvirt.refused_groups) != 0) {
    newest_error = (flags & libvirt.refused_flags) != 0 ? VIR_ERR_INVALID_ARG : VIR_ERR_ARGUMENT_UNSUPPORTED;
    return -1;
  }
  *records = static_cast<virDomainStatsRecordPtr*>(
      std::calloc(libvirt.domains.size() + 1, sizeof(virDomainStatsRecordPtr)));
  int count = 0;
  for (const auto& [uuid, domain] : libvirt.domains) {
    auto* const params = new virTypedParameter[domain.numbers.size()];
    std::ranges::copy(domain.numbers, params);
    (*records)[count++] =
        new virDomainStatsRecord{.dom = new virDomain{.libvirt = libvirt, .uuid = uuid, .name = domain.name},
                                 .params = params,
                                 .nparams = static_cast<int>(domain.numbers.size())};
  }
  return count;
}

void virDomainStatsRecordListFree(virDomainStatsRecordPtr* records) {
  for (virDomainStatsRecordPtr* each = records; *each != nullptr; ++each) {
    delete (*each)->dom;
    delete[] (*each)->params;
    delete *each;
  }
  std::free(records);
}

const char* virDomainGetName(virDomainPtr domain) {
  return domain->name.empty() ? nullptr : domain->name.c_str();
}

int virDomainGetUUIDString(virDomainPtr domain, char* buffer) {
  if (domain->uuid.size() >= VIR_UUID_STRING_BUFLEN) return -1;
  std::strcpy(buffer, domain->uuid.c_str());
  return 0;
}

virDomainPtr virDomainLookupByUUIDString(virConnectPtr connection, const char* uuid) {
  FakeLibvirt& libvirt = connection->libvirt;
  if (!libvirt.call("lookup")) return nullptr;
  const std::lock_guard lock(libvirt.mutex);
  const auto domain = libvirt.domains.find(uuid);
  return domain == libvirt.domains.end()
             ? nullptr
             : new virDomain{.libvirt = libvirt, .uuid = uuid, .name = domain->second.name};
}

int virDomainFree(virDomainPtr domain) {
  delete domain;
  return 0;
}

char* virDomainGetXMLDesc(virDomainPtr domain, unsigned flags) {
  FakeLibvirt& libvirt = domain->libvirt;
  if (!libvirt.call("xml")) return nullptr;
  const std::lock_guard lock(libvirt.mutex);
  const FakeDomain& fake = libvirt.domains[domain->uuid];
  return ::strdup((flags & VIR_DOMAIN_XML_INACTIVE) != 0 ? fake.next_xml.c_str() : fake.xml.c_str());
}

int virDomainIsPersistent(virDomainPtr domain) {
  FakeLibvirt& libvirt = domain->libvirt;
  const std::lock_guard lock(libvirt.mutex);
  return libvirt.domains[domain->uuid].persistent ? 1 : 0;
}

int virDomainGetJobInfo(virDomainPtr domain, virDomainJobInfoPtr info) {
  FakeLibvirt& libvirt = domain->libvirt;
  if (!libvirt.call("job")) return -1;
  const std::lock_guard lock(libvirt.mutex);
  info->type = libvirt.domains[domain->uuid].job;
  return 0;
}

int virDomainSetMemoryFlags(virDomainPtr domain, unsigned long kib, unsigned flags) {
  FakeLibvirt& libvirt = domain->libvirt;
  if (!libvirt.call("target")) return -1;
  const std::lock_guard lock(libvirt.mutex);
  libvirt.domains[domain->uuid].target_kib = kib;
  libvirt.domains[domain->uuid].target_flags = flags;
  return 0;
}

int virDomainSetMemoryStatsPeriod(virDomainPtr domain, int period, unsigned) {
  FakeLibvirt& libvirt = domain->libvirt;
  if (!libvirt.call("period")) return -1;
  const std::lock_guard lock(libvirt.mutex);
  libvirt.domains[domain->uuid].period = period;
  return 0;
}

}  // extern "C"
