// SPDX-License-Identifier: Apache-2.0
#include "policy/sim/replay_command.h"

#include <fmt/format.h>

#include <cstdio>
#include <memory>
#include <utility>

#include "base/standard_output.h"
#include "policy/rules/resolver.h"
#include "policy/sim/jobs.h"
#include "policy/sim/replay.h"

namespace balloon::policy::sim {
namespace {

using policy::recording::Tick;
using policy::sim::Alternate;

/// What the host had when the recording began: a policy's shares are of that.
Result<Bytes> recorded_host_memory(const std::string& path) {
  auto source = policy::sim::ReplaySource::open(path);
  if (!source) return std::unexpected(source.error());
  const auto step = source->next();
  if (!step) return std::unexpected(step.error());
  if (*step == policy::sim::ReplaySource::Step::ends) return fail(path + ": there is no decision in it");
  return source->tick().snapshot.host.total;
}

/// The recorded guests, granted what a policy file says for their names and labels at the recorded time.
Result<Alternate> by_policy(const ReplayArguments& arguments) {
  const auto memory = recorded_host_memory(arguments.path);
  if (!memory) return std::unexpected(memory.error());
  auto policy = rules::load_policy(arguments.policy, *memory);
  if (!policy) return std::unexpected(policy.error());
  const auto resolver = std::make_shared<rules::Resolver>(std::move(*policy));
  return Alternate{.name = "the policy " + arguments.policy,
                   .tunables = resolver->policy().tunables,
                   .regrant = [resolver](const Tick& tick, policy::Snapshot& seen) {
                     resolver->at(std::chrono::system_clock::time_point(tick.wall));
                     seen.groups = resolver->groups();
                     for (std::size_t i = 0; i < seen.guests.size(); ++i) {
                       policy::GuestSnapshot& guest = seen.guests[i];
                       guest.limits = resolver->limits(guest.name, tick.labels[i], guest.memory);
                     }
                   }};
}

int complain(const char* program, const std::string& message, int code) {
  fmt::print(stderr, "{}: {}\n", program, message);
  return code;
}

}  // namespace

int run_replay(const ReplayArguments& arguments, const char* program) {
  Alternate alternate;
  if (!arguments.law.empty()) {
    alternate.law = policy::peers::find_law(arguments.law);
    if (alternate.law == nullptr) {
      return complain(program,
                      fmt::format("no law is called '{}'; 'balloon-sim list' names them", arguments.law),
                      kReplayUsage);
    }
    alternate.name = "the law " + arguments.law;
  }
  if (!arguments.policy.empty()) {
    auto by = by_policy(arguments);
    if (!by) return complain(program, by.error().message, kReplayUnreadable);
    by->law = alternate.law;
    if (by->law != nullptr) by->name = alternate.name + " under " + by->name;
    alternate = std::move(*by);
  }
  policy::sim::ReplayOptions options{.guest = arguments.guest};
  auto report = [&] {
    policy::sim::ProgressBar bar;
    options.on_progress = [&](std::uint64_t done, std::uint64_t all) { bar.show(done, all); };
    return policy::sim::replay(arguments.path, alternate, options);
  }();
  if (!report) return complain(program, report.error().message, kReplayUnreadable);
  const auto printed = print_output(arguments.output == "json"  ? policy::sim::to_json(*report)
                                    : arguments.output == "csv" ? policy::sim::to_csv(*report)
                                                                : policy::sim::to_table(*report));
  if (!printed) return complain(program, printed.error().message, kReplayUnreadable);
  return alternate.as_recorded() && report->different != 0 ? kReplayDifferent : 0;
}

}  // namespace balloon::policy::sim
