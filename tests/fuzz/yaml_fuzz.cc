// SPDX-License-Identifier: Apache-2.0
// Configuration files that say anything: the daemon's, its policy, and a guest's. The first byte chooses.
#include <cmath>
#include <cstdio>
#include <string>
#include <string_view>

#include "balloond/config/daemon_config.h"
#include "base/strict_yaml.h"
#include "policy/rules/policy_file.h"
#include "policy/rules/policy_text.h"
#include "policy/rules/resolver.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/machine/config.h"

namespace balloon::vmm::fuzz {
namespace {

constexpr Bytes kHostMemory = 8 * kGiB;

/// What was taken; or why it was not, which has to be said.
template <typename T>
bool taken(const Result<T>& result) {
  require(result || !result.error().message.empty(), "a refusal does not say why");
  return result.has_value();
}

void read_daemon(std::string_view text) {
  const auto document = yaml::Document::parse(text, "balloond.yaml");
  if (!taken(document)) return;
  daemon::DaemonConfig config;
  if (!taken(daemon::read_daemon_config(*document, "/etc/balloond/balloond.yaml", config))) return;
  require(config.period >= daemon::kPeriodMin && config.period <= daemon::kPeriodMax,
          "a period is taken that cannot be");
}

Result<policy::rules::PolicyFile> policy_of(std::string_view text) {
  const auto document = yaml::Document::parse(text, "policy.yaml");
  if (!document) return std::unexpected(document.error());
  return policy::rules::read_policy(*document, kHostMemory);
}

/// What is printed of a policy says the same, and guests have the same limits by it.
void read_policy(std::string_view text) {
  auto policy = policy_of(text);
  if (!taken(policy)) return;
  const std::string printed = policy::rules::policy_text(*policy);
  auto again = policy_of(printed);
  if (!again) std::fprintf(stderr, "%s\n%s\n", again.error().message.c_str(), printed.c_str());
  require(again.has_value(), "a policy is refused as it is printed");
  require(policy::rules::policy_text(*again) == printed, "a policy is printed otherwise once it was printed");
  // A reserve that was left out is printed as well; one that is stated is kept, the default lent.
  again->tunables.reserve_kept_ratio = policy->tunables.reserve_kept_ratio;
  // They are printed as percentages of ten digits.
  using States = policy::HostStateRules;
  for (double States::* const threshold :
       {&States::normal, &States::tight, &States::critical, &States::emergency}) {
    double& printed_as = again->tunables.states.*threshold;
    if (std::abs(printed_as - policy->tunables.states.*threshold) < 1e-9)
      printed_as = policy->tunables.states.*threshold;
  }
  require(policy->tunables == again->tunables && policy->ksm == again->ksm &&
              policy->other_hands.then == again->other_hands.then &&
              policy->other_hands.time == again->other_hands.time &&
              policy->ram_allocation_ratio == again->ram_allocation_ratio,
          "a policy is another one as it is printed");
  policy::rules::Resolver as_read(std::move(*policy)), as_printed(std::move(*again));
  for (const int hour : {0, 9}) {
    const std::chrono::system_clock::time_point now(std::chrono::seconds(1'700'000'000) +
                                                    std::chrono::hours(hour));
    as_read.at(now);
    as_printed.at(now);
    for (const char* name : {"web-1", "db"}) {
      const auto& limits = as_read.limits(name, {{"tier", "db"}}, 2 * kGiB);
      require(limits.min <= limits.max, "a guest's minimum is above its maximum");
      require(limits == as_printed.limits(name, {{"tier", "db"}}, 2 * kGiB),
              "a guest has other limits by a policy as it is printed");
    }
  }
}

void read_guest(std::string_view text) {
  VmmConfig config;
  if (!taken(read_config(text, "guest.yaml", config))) return;
  if (!taken(check_config(config))) return;
  require(config.cpus > 0 && config.memory > Bytes{}, "a guest without a processor or memory is taken");
}

void run(std::span<const std::uint8_t> bytes) {
  if (bytes.empty()) return;
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + 1, bytes.size() - 1);
  switch (bytes.front() % 3) {
    case 0:
      return read_daemon(text);
    case 1:
      return read_policy(text);
    default:
      return read_guest(text);
  }
}

Bytes8 seed(char kind, std::string_view text) {
  Bytes8 bytes{static_cast<std::uint8_t>(kind)};
  bytes.insert(bytes.end(), text.begin(), text.end());
  return bytes;
}

}  // namespace

std::vector<Bytes8> seeds() {
  std::string many = "guests: [";
  for (int i = 0; i < 2000; ++i) many += "{name: \"*\"},";
  return {
      seed('0', R"(
socket: {path: /run/b.sock, mode: "0660"}
read_socket: {path: /run/r.sock}
access: {operate: {users: [root], groups: [kvm]}}
metrics: {listen: "[::1]:9477"}
control: {period: 1s, stats_interval: 500ms, dry_run: true}
journal: {directory: /var/b, file_size: 64MiB, total_size: 1GiB}
needs: {directory: /var/n}
backends:
  qmp: [{directory: /run/q, pattern: "*.sock", exclusive: true}]
  libvirt: [{uri: "qemu:///system"}]
policy: policy.yaml
log_level: debug)"),
      seed('1', R"(
host: {ksm: on}
states: {minimum_free: sliding, tight: 64%, swap_tight: 1MiB}
engine: {margin_ratio: 0.15, hold: 10s, surplus: wanted}
defaults: {min: linux-floor, max: 100%, weight: 100, class: burstable}
groups: [{name: db, min: 1GiB, each: {weight: 200}}, {name: web, inherits: db}]
guests: [{name: "web-*", labels: {tier: db}, group: db, max: 4GiB, ksm: off, margin_factor: 0.5}]
contested: {then: override, for: 5m}
admission: {ram_allocation_ratio: 1.5})"),
      seed('2', R"(
name: web-1
memory: 2GiB
cpus: 2
kernel: /boot/vmlinuz
memory_backing: {huge_pages: 2MiB, shared: true, lock: yes}
virtio: modern
disks: [{path: "a,b.img", readonly: true, cache: none, addr: 5, rate: {bytes: 1MiB}}]
nets: [{tap: tap0, mac: "52:54:00:12:34:56", vhost: "off", queues: 2}]
serial: stdio
rng: {enabled: true, bytes_per_second: 1MiB}
labels: {tier: db})"),
      // As deep as it goes, wide, and with what is not taken.
      seed('1', std::string(4000, '[')),
      seed('2', std::string(3000, '{') + std::string(3000, '}')),
      seed('0', "a: &x [1, 2]\nb: *x\n<<: *x\n--- {}\n"),
      seed('1', many + "]\n"),
  };
}

}  // namespace balloon::vmm::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const balloon::vmm::fuzz::Limits limits;
  balloon::vmm::fuzz::run(std::span(data, size));
  return 0;
}
