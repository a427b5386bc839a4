// SPDX-License-Identifier: Apache-2.0
// libvirt's client library, loaded when the first libvirtd is configured: a host without libvirt needs none
// of it. Its headers are needed to build this.
#pragma once

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#include <string>

#include "base/error.h"

namespace balloon::daemon::libvirt {

#define BALLOON_LIBVIRT_FUNCTIONS(function)     \
  function(virInitialize);                      \
  function(virSetErrorFunc);                    \
  function(virGetLastErrorMessage);             \
  function(virEventRegisterDefaultImpl);        \
  function(virEventRunDefaultImpl);             \
  function(virEventAddTimeout);                 \
  function(virConnectOpen);                     \
  function(virConnectClose);                    \
  function(virConnectSetKeepAlive);             \
  function(virConnectGetVersion);               \
  function(virConnectGetType);                  \
  function(virConnectIsAlive);                  \
  function(virConnectGetAllDomainStats);        \
  function(virDomainStatsRecordListFree);       \
  function(virConnectDomainEventRegisterAny);   \
  function(virConnectDomainEventDeregisterAny); \
  function(virDomainLookupByUUIDString);        \
  function(virDomainFree);                      \
  function(virDomainGetName);                   \
  function(virDomainGetUUIDString);             \
  function(virDomainGetXMLDesc);                \
  function(virDomainIsPersistent);              \
  function(virDomainGetJobInfo);                \
  function(virDomainSetMemoryFlags);            \
  function(virDomainSetMemoryStatsPeriod)

/// libvirt's functions by their own names.
struct Library {
// NOLINTNEXTLINE(bugprone-macro-parentheses): the name of what it declares
#define BALLOON_LIBVIRT_MEMBER(name) decltype(&::name) name = nullptr
  BALLOON_LIBVIRT_FUNCTIONS(BALLOON_LIBVIRT_MEMBER);
#undef BALLOON_LIBVIRT_MEMBER

  /// What went wrong in the newest call of this thread, in one line.
  std::string error() const;
};

/// Loads it, once, and starts the thread in which it calls event callbacks; both stay as long as the process.
Result<const Library*> load_library();

}  // namespace balloon::daemon::libvirt
