// SPDX-License-Identifier: Apache-2.0
#include "balloond/control/shadow_policy.h"

#include "base/bytes.h"
#include "base/log.h"
#include "policy/engine.h"

namespace balloon::daemon {
namespace {

/// Differences go on for as long as their causes do: a line a minute says enough. The metrics have every one.
constexpr std::chrono::nanoseconds kReportEvery = std::chrono::minutes(1);

void report(const policy::ShadowReport& report) {
  log::info("the shadow policy would have given {} guests other targets: {} more, {} less",
            report.guests.size(), format_bytes(report.more), format_bytes(report.less));
  for (const policy::ShadowDifference& guest : report.guests) {
    log::debug("guest {}: target {}, by the shadow policy {}", guest.guest, format_bytes(guest.live),
               format_bytes(guest.shadow));
  }
}

}  // namespace

ShadowPolicy::ShadowPolicy(const policy::rules::PolicyFile& policy)
    : resolver_(policy), shadow_(std::make_unique<policy::Engine>(policy.tunables)) {}

void ShadowPolicy::observe(const policy::Snapshot& seen,
                           const std::vector<const std::map<std::string, std::string>*>& labels,
                           std::chrono::system_clock::time_point wall, const policy::Plan& live,
                           Counters& counters) {
  resolver_.at(wall);
  policy::Snapshot by_its_rules = seen;
  by_its_rules.groups = resolver_.groups();
  for (std::size_t i = 0; i < by_its_rules.guests.size(); ++i) {
    policy::GuestSnapshot& guest = by_its_rules.guests[i];
    guest.limits = resolver_.limits(guest.name, *labels.at(i), guest.memory);
  }
  const policy::ShadowReport& difference = shadow_.observe(by_its_rules, live);
  ++counters.shadow_decisions;
  if (difference.guests.empty()) return;
  ++counters.shadow_different;
  if (reported_ != policy::Time() && seen.now - reported_ < kReportEvery) return;
  reported_ = seen.now;
  report(difference);
}

}  // namespace balloon::daemon
