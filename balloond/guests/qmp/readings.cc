// SPDX-License-Identifier: Apache-2.0
#include "balloond/guests/qmp/readings.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <set>
#include <string_view>
#include <utility>
#include <variant>

#include "balloond/guests/sanitize.h"

namespace balloon::daemon::qmp {
namespace {

using nlohmann::json;

constexpr std::uint64_t kUnknown = std::numeric_limits<std::uint64_t>::max();
/// Of a value that makes no sense this much is shown.
constexpr std::size_t kShownMax = 40;

std::string shown(const json& value) {
  if (value.is_structured()) return value.is_array() ? "a list" : "an object";
  return printable(value.dump(-1, ' ', true, json::error_handler_t::replace).substr(0, kShownMax));
}

Result<std::uint64_t> number(const json& object, const char* key) {
  const auto at = object.is_object() ? object.find(key) : object.end();
  if (!object.is_object() || at == object.end()) return fail(fmt::format("'{}' is missing", key));
  if (!at->is_number_unsigned()) return fail(fmt::format("'{}' is {}, not a count", key, shown(*at)));
  return at->get<std::uint64_t>();
}

Result<Bytes> size(const json& object, const char* key) {
  const auto count = number(object, key);
  if (!count) return std::unexpected(count.error());
  return Bytes{*count};
}

Result<std::string> text(const json& object, const char* key) {
  if (!object.is_object() || !object.contains(key) || !object.at(key).is_string())
    return fail(fmt::format("'{}' is missing or no text", key));
  return object.at(key).get<std::string>();
}

/// A guest's value: unset when it is missing or unknown, which QEMU shows as 2^64-1 (docs of some versions:
/// -1).
Result<std::optional<std::uint64_t>> guest_value(const json& stats, const char* key) {
  const auto at = stats.find(key);
  if (at == stats.end()) return std::nullopt;
  if (at->is_number_integer() && !at->is_number_unsigned() && at->get<std::int64_t>() == -1)
    return std::nullopt;
  const auto value = number(stats, key);
  if (!value) return std::unexpected(value.error());
  if (*value == kUnknown) return std::nullopt;
  return *value;
}

bool has_text_with(const json& list, std::string_view start) {
  return list.is_array() && std::ranges::any_of(list, [&](const json& each) {
           return each.is_string() && each.get_ref<const std::string&>().starts_with(start);
         });
}

const json& member(const json& object, const char* key) {
  static const json none;
  const auto at = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && at != object.end() ? *at : none;
}

}  // namespace

Result<std::optional<std::string>> read_name(const json& answer) {
  if (answer.is_object() && !answer.contains("name")) return std::nullopt;
  auto name = text(answer, "name");
  if (!name) return std::unexpected(name.error());
  return *name;
}

Result<std::optional<std::string>> read_uuid(const json& answer) {
  auto uuid = text(answer, "UUID");
  if (!uuid) return std::unexpected(uuid.error());
  if (*uuid == "00000000-0000-0000-0000-000000000000") return std::nullopt;
  return *uuid;
}

Result<std::uint32_t> read_cpus(const json& answer) {
  if (!answer.is_array()) return fail("the list of processors is no list");
  return static_cast<std::uint32_t>(answer.size());
}

Result<Bytes> read_memory_size(const json& answer) {
  const auto base = size(answer, "base-memory");
  if (!base) return std::unexpected(base.error());
  Bytes plugged{};
  if (answer.contains("plugged-memory")) {
    const auto more = size(answer, "plugged-memory");
    if (!more) return std::unexpected(more.error());
    plugged = *more;
  }
  if (plugged > Bytes::max() - *base) return fail("the memory's size is absurd");
  return *base + plugged;
}

Result<std::string> find_interlock(const json& answer) {
  if (!answer.is_array()) return fail("the list of devices is no list");
  for (const json& child : answer) {
    const auto type = text(child, "type");
    if (!type) continue;
    for (const char* const encrypted : {"child<sev-guest>", "child<sev-snp-guest>", "child<tdx-guest>"}) {
      if (*type == encrypted)
        return fmt::format("its memory is encrypted and stays where it is ({})",
                           type->substr(6, type->size() - 7));
    }
    if (type->starts_with("child<vfio-"))
      return fmt::format("its memory is pinned for a device of the host ({})",
                         type->substr(6, type->size() - 7));
  }
  return std::string();
}

Result<std::optional<std::string>> find_balloon(const json& answer) {
  if (!answer.is_array()) return fail("the list of devices is no list");
  for (const json& child : answer) {
    const auto type = text(child, "type");
    if (!type || !type->starts_with("child<virtio-balloon"))
      continue;  // -pci, -ccw, -device, -pci-transitional
    auto name = text(child, "name");
    if (!name) return std::unexpected(name.error());
    return *name;
  }
  return std::nullopt;
}

Result<Bytes> read_actual(const json& answer) { return size(answer, "actual"); }

Result<RunState> read_run_state(const json& answer) {
  auto status = text(answer, "status");
  if (!status) return std::unexpected(status.error());
  const json& running = member(answer, "running");
  if (!running.is_boolean()) return fail("'running' is missing or neither true nor false");
  return RunState{.running = running.get<bool>(), .status = printable(*status)};
}

Result<bool> read_migrating(const json& answer) {
  if (!answer.is_object()) return fail("the state of migration is no object");
  if (!answer.contains("status")) return false;  // never migrated
  const auto status = text(answer, "status");
  if (!status) return std::unexpected(status.error());
  // MigrationStatus in QEMU's qapi/migration.json: all others are of a migration under way.
  static const std::set<std::string, std::less<>> over{"none", "cancelled", "completed", "failed", "colo"};
  return !over.contains(*status);
}

Result<Jobs> read_jobs(const json& answer) {
  if (!answer.is_array()) return fail("jobs are no list");
  // JobType and JobStatus in QEMU's qapi/job.json.
  static const std::set<std::string, std::less<>> over{"undefined", "concluded", "null"};
  Jobs jobs;
  for (const json& job : answer) {
    const auto type = text(job, "type");
    const auto status = text(job, "status");
    if (!type) return std::unexpected(type.error());
    if (!status) return std::unexpected(status.error());
    if (over.contains(*status)) continue;
    jobs.snapshots |= type->starts_with("snapshot-");
    jobs.backs_up |= *type == "backup";
  }
  return jobs;
}

Result<Statistics> read_statistics(const json& answer) {
  const json& stats = member(answer, "stats");
  if (!stats.is_object()) return fail("'stats' is missing or no object");
  Statistics read;
  const auto updated = number(answer, "last-update");
  if (!updated) return std::unexpected(updated.error());
  // The last second since 1970 that a clock of 64 bits of nanoseconds holds, rounded (year 2255).
  constexpr std::uint64_t kSecondsMax = 9'000'000'000;
  if (*updated > kSecondsMax) return fail(fmt::format("'last-update' {} is not a time", *updated));
  if (*updated > 0) read.updated_at = std::chrono::seconds(*updated);
  using Field = std::variant<std::optional<Bytes>*, std::optional<std::uint64_t>*>;
  const std::array<std::pair<const char*, Field>, 16> fields{{
      {"stat-swap-in", &read.swap_in},
      {"stat-swap-out", &read.swap_out},
      {"stat-major-faults", &read.major_faults},
      {"stat-minor-faults", &read.minor_faults},
      {"stat-free-memory", &read.free},
      {"stat-total-memory", &read.total},
      {"stat-available-memory", &read.available},
      {"stat-disk-caches", &read.disk_caches},
      {"stat-htlb-pgalloc", &read.hugetlb_allocations},
      {"stat-htlb-pgfail", &read.hugetlb_failures},
      {"stat-oom-kills", &read.oom_kills},
      {"stat-alloc-stalls", &read.alloc_stalls},
      {"stat-async-scans", &read.async_scans},
      {"stat-direct-scans", &read.direct_scans},
      {"stat-async-reclaims", &read.async_reclaims},
      {"stat-direct-reclaims", &read.direct_reclaims},
  }};
  for (const auto& [key, field] : fields) {
    const auto value = guest_value(stats, key);
    if (!value) return std::unexpected(value.error());
    if (*value) std::visit([&](auto* known) { known->emplace(**value); }, field);
  }
  return read;
}

Result<std::chrono::seconds> read_polling_interval(const json& answer) {
  if (!answer.is_number_unsigned()) return fail(fmt::format("the polling interval is {}", shown(answer)));
  constexpr std::uint64_t kYear = 31'536'000;
  return std::chrono::seconds(std::min(answer.get<std::uint64_t>(), kYear));
}

Result<Driver> read_driver(const json& answer) {
  const json& statuses = member(member(answer, "status"), "statuses");
  if (!statuses.is_array()) return fail("the driver's status is missing");
  const json& features = member(member(answer, "guest-features"), "dev-features");
  return Driver{.ready = has_text_with(statuses, "VIRTIO_CONFIG_S_DRIVER_OK"),
                .statistics = has_text_with(features, "VIRTIO_BALLOON_F_STATS_VQ"),
                .deflate_on_oom = has_text_with(features, "VIRTIO_BALLOON_F_DEFLATE_ON_OOM"),
                .free_page_reporting = has_text_with(features, "VIRTIO_BALLOON_F_REPORTING")};
}

Result<Bytes> read_disk_reads(const json& answer) {
  if (!answer.is_array()) return fail("the list of disks is no list");
  Bytes sum{};
  for (const json& disk : answer) {
    const auto read = size(member(disk, "stats"), "rd_bytes");
    if (!read) return std::unexpected(read.error());
    if (*read > Bytes::max() - sum) return fail("what the disks read is absurd");
    sum += *read;
  }
  return sum;
}

}  // namespace balloon::daemon::qmp
