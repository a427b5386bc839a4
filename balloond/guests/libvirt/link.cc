// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/libvirt/link.h"

#include <fmt/format.h>
#include <libvirt/virterror.h>

#include <array>
#include <cstdlib>
#include <span>
#include <string_view>

#include "balloond/guests/libvirt/client.h"

namespace balloon::daemon::libvirt {
namespace {

/// A libvirtd that does not answer for twice this long is taken for gone, and calls to it fail.
constexpr int kKeepAliveSeconds = 3;
constexpr unsigned kKeepAliveCount = 2;

/// How all domains are looked at. An older libvirt refuses what it does not know, and is asked for less.
/// Since when it knows what is in libvirt-domain.h: the groups that are needed since 1.2.9, not to wait
/// since 4.5.0.
struct Way {
  unsigned groups;
  unsigned flags;
  std::string_view lack;
};
constexpr unsigned kNeeded = VIR_DOMAIN_STATS_STATE | VIR_DOMAIN_STATS_BALLOON;
constexpr unsigned kAll = kNeeded | VIR_DOMAIN_STATS_VCPU | VIR_DOMAIN_STATS_BLOCK;
constexpr unsigned kActive = VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE;
constexpr std::array<Way, 3> kWays{{
    // A domain that another call holds is not waited for: it comes without what only QEMU knows.
    {.groups = kAll, .flags = kActive | VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT, .lack = {}},
    {.groups = kAll,
     .flags = kActive,
     .lack = "it waits for a domain that another call holds, and tells nothing of the others meanwhile; "
             "libvirt 4.5.0 or later does not"},
    {.groups = kNeeded,
     .flags = kActive,
     .lack = "it waits for a domain that another call holds, and tells nothing of virtual CPUs and disks; "
             "libvirt 4.5.0 or later does better"},
}};

/// The newest call failed as its libvirt does not know it, or not with what it was given.
bool is_unknown_there() {
  const int code = virGetLastErrorCode();
  return code == VIR_ERR_NO_SUPPORT || code == VIR_ERR_INVALID_ARG || code == VIR_ERR_ARGUMENT_UNSUPPORTED;
}

Numbers numbers_of(const virDomainStatsRecord& record) {
  Numbers numbers;
  for (const virTypedParameter& each : std::span(record.params, static_cast<std::size_t>(record.nparams))) {
    switch (each.type) {
      case VIR_TYPED_PARAM_INT:
        if (each.value.i >= 0) numbers.emplace(each.field, static_cast<std::uint64_t>(each.value.i));
        break;
      case VIR_TYPED_PARAM_UINT:
        numbers.emplace(each.field, each.value.ui);
        break;
      case VIR_TYPED_PARAM_LLONG:
        if (each.value.l >= 0) numbers.emplace(each.field, static_cast<std::uint64_t>(each.value.l));
        break;
      case VIR_TYPED_PARAM_ULLONG:
        numbers.emplace(each.field, each.value.ul);
        break;
      default:
        break;
    }
  }
  return numbers;
}

/// What an event's callback is given: it outlives the connection that it came from.
struct Listener {
  Link::OnEvent on_event;
  void tell(virDomain* domain, bool rebooted) const {
    std::array<char, VIR_UUID_STRING_BUFLEN> uuid{};
    if (virDomainGetUUIDString(domain, uuid.data()) == 0)
      on_event({.uuid = uuid.data(), .rebooted = rebooted});
  }
};

void free_listener(void* listener) { delete static_cast<Listener*>(listener); }

int on_lifecycle(virConnect* /*connection*/, virDomain* domain, int /*event*/, int /*detail*/,
                 void* listener) {
  static_cast<const Listener*>(listener)->tell(domain, false);
  return 0;
}
void on_reboot(virConnect* /*connection*/, virDomain* domain, void* listener) {
  static_cast<const Listener*>(listener)->tell(domain, true);
}
void on_balloon(virConnect* /*connection*/, virDomain* domain, unsigned long long /*actual*/,
                void* listener) {
  static_cast<const Listener*>(listener)->tell(domain, false);
}

}  // namespace

Result<std::unique_ptr<Link>> Link::open(const std::string& uri, const OnEvent& on_event) {
  std::unique_ptr<Link> link(new Link());
  link->connection_ = virConnectOpen(uri.c_str());
  if (link->connection_ == nullptr) return fail(last_error());
  // Drivers that run in this process have nobody to keep alive, and refuse.
  virConnectSetKeepAlive(link->connection_, kKeepAliveSeconds, kKeepAliveCount);
  if (on_event) link->listen(on_event);
  return link;
}

Link::~Link() {
  if (connection_ == nullptr) return;
  for (const int callback : callbacks_) virConnectDomainEventDeregisterAny(connection_, callback);
  virConnectClose(connection_);
}

/// Without an event, what happened is seen at the next look.
void Link::listen(const OnEvent& on_event) {
  const std::array<std::pair<int, virConnectDomainEventGenericCallback>, 3> callbacks{{
      {VIR_DOMAIN_EVENT_ID_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle)},
      {VIR_DOMAIN_EVENT_ID_REBOOT, VIR_DOMAIN_EVENT_CALLBACK(on_reboot)},
      {VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE, VIR_DOMAIN_EVENT_CALLBACK(on_balloon)},
  }};
  for (const auto& [event, callback] : callbacks) {
    auto listener = std::make_unique<Listener>(on_event);
    const int id = virConnectDomainEventRegisterAny(connection_, nullptr, event, callback, listener.get(),
                                                    free_listener);
    if (id < 0) continue;
    [[maybe_unused]] const Listener* const freed_with_the_callback = listener.release();
    callbacks_.push_back(id);
  }
}

Result<std::vector<Figures>> Link::look() {
  virDomainStatsRecordPtr* records = nullptr;
  int count = -1;
  while (true) {
    const Way& way = kWays.at(way_);
    count = virConnectGetAllDomainStats(connection_, way.groups, &records, way.flags);
    if (count >= 0) break;
    if (!is_unknown_there()) return fail(last_error());
    if (way_ + 1 == kWays.size())
      return fail(
          fmt::format("{}: balloond needs libvirt 1.2.9 or later and its driver for QEMU", last_error()));
    ++way_;
    lack_ = fmt::format("{}: {}", last_error(), kWays.at(way_).lack);
  }
  std::vector<Figures> figures;
  for (const virDomainStatsRecord* const record : std::span(records, static_cast<std::size_t>(count))) {
    std::array<char, VIR_UUID_STRING_BUFLEN> uuid{};
    const char* const name = virDomainGetName(record->dom);
    if (name == nullptr || virDomainGetUUIDString(record->dom, uuid.data()) != 0) continue;
    figures.push_back(read_figures(uuid.data(), name, numbers_of(*record)));
  }
  virDomainStatsRecordListFree(records);
  return figures;
}

std::string Link::version() const {
  unsigned long version = 0;
  const char* const type = virConnectGetType(connection_);
  if (type == nullptr || virConnectGetVersion(connection_, &version) != 0) return "libvirt";
  return fmt::format("{} {}.{}.{}", type, version / 1'000'000, version / 1000 % 1000, version % 1000);
}

Result<Link::Domain> Link::domain(const std::string& uuid) const {
  Domain found(virDomainLookupByUUIDString(connection_, uuid.c_str()));
  if (!found) return fail(last_error());
  return found;
}

Result<std::string> Link::xml_of(const Domain& domain, unsigned flags) const {
  const std::unique_ptr<char, decltype(&std::free)> xml(virDomainGetXMLDesc(domain.get(), flags), &std::free);
  if (!xml) return fail(last_error());
  return std::string(xml.get());
}

Result<std::string> Link::describe(const std::string& uuid) const {
  const auto found = domain(uuid);
  if (!found) return std::unexpected(found.error());
  return xml_of(*found, 0);
}

Result<std::optional<std::string>> Link::describe_next_start(const std::string& uuid) const {
  const auto found = domain(uuid);
  if (!found) return std::unexpected(found.error());
  if (virDomainIsPersistent(found->get()) != 1) return std::nullopt;
  auto xml = xml_of(*found, VIR_DOMAIN_XML_INACTIVE);
  if (!xml) return std::unexpected(xml.error());
  return std::move(*xml);
}

Result<bool> Link::has_job(const std::string& uuid) {
  if (!knows_jobs_) return false;
  const auto found = domain(uuid);
  if (!found) return std::unexpected(found.error());
  virDomainJobInfo job{};
  if (virDomainGetJobInfo(found->get(), &job) != 0) {
    knows_jobs_ = !is_unknown_there();
    if (!knows_jobs_) {
      lack_ += fmt::format("{}{}: whether a domain is migrated, saved or backed up is not seen",
                           lack_.empty() ? "" : "; ", last_error());
    }
    return fail(last_error());
  }
  return job.type == VIR_DOMAIN_JOB_BOUNDED || job.type == VIR_DOMAIN_JOB_UNBOUNDED;
}

Result<void> Link::set_target(const std::string& uuid, Bytes target) const {
  const auto found = domain(uuid);
  if (!found) return std::unexpected(found.error());
  if (virDomainSetMemoryFlags(found->get(), target / kKiB, VIR_DOMAIN_AFFECT_LIVE) != 0)
    return fail(last_error());
  return {};
}

Result<void> Link::set_period(const std::string& uuid, std::chrono::seconds period) const {
  const auto found = domain(uuid);
  if (!found) return std::unexpected(found.error());
  if (virDomainSetMemoryStatsPeriod(found->get(), static_cast<int>(period.count()), VIR_DOMAIN_AFFECT_LIVE) !=
      0)
    return fail(last_error());
  return {};
}

bool Link::alive() const { return virConnectIsAlive(connection_) == 1; }

}  // namespace balloon::daemon::libvirt
