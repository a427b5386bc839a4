// SPDX-License-Identifier: Apache-2.0
#include "balloond/metrics/sections.h"
#include "base/log.h"

namespace balloon::daemon {
namespace {

constexpr std::array<std::string_view, kConditions> kBlockers{
    "none",     "budget", "maximum",    "minimum", "group", "larger_change", "time", "others",
    "pressure", "growth", "statistics", "balloon", "pin"};

void add_moves(Families& out, const Counters& counters) {
  constexpr auto moves = "balloon_moves_total";
  constexpr auto moves_help = "Targets that were changed.";
  const Labels shrink{{"direction", "shrink"}};
  const Labels grow{{"direction", "grow"}};
  out.counter(moves, moves_help, counters.shrinks.load(), shrink);
  out.counter(moves, moves_help, counters.grows.load(), grow);
  constexpr auto moved = "balloon_moved_bytes_total";
  constexpr auto moved_help = "Memory by which targets were changed.";
  out.counter(moved, moved_help, counters.bytes_shrunk.load(), shrink);
  out.counter(moved, moved_help, counters.bytes_grown.load(), grow);
  out.counter("balloon_reversals_total",
              "Targets that were changed in the other direction than the guest's last time, within a minute.",
              counters.reversals.load());
}

}  // namespace

void add_decisions(Families& out, const Counters& counters) {
  for (std::size_t i = 1; i < kReasons.size(); ++i) {
    out.counter("balloon_decisions_total",
                "Decisions for one guest, by the constraint that bound its target.",
                counters.decisions.at(i).load(), {{"reason", kReasons.at(i)}});
  }
  for (std::size_t i = 1; i < kConditions; ++i) {
    out.counter("balloon_decisions_blocked_total",
                "Decisions for one guest that something kept from another target, by what would change it.",
                counters.blocked.at(i).load(), {{"by", kBlockers.at(i)}});
  }
  add_moves(out, counters);
  if (counters.shadow_decisions != 0) {
    out.counter("balloon_shadow_decisions_total",
                "Decisions that the shadow policy made beside the live one.",
                counters.shadow_decisions.load());
    out.counter("balloon_shadow_different_decisions_total",
                "Those of them in which some guest would have had another target.",
                counters.shadow_different.load());
  }
  out.counter("balloon_fresh_stats_requests_total",
              "Times that a guest was asked for fresh statistics, because the host was short of memory.",
              counters.stats_requests.load());
  out.counter("balloon_failed_ticks_total",
              "Control periods without a decision, because the host could not be sampled.",
              counters.failed_ticks.load());
}

void add_journal(Families& out, const JournalCounters* journal) {
  static const JournalCounters kNone;
  const JournalCounters& counters = journal == nullptr ? kNone : *journal;
  out.gauge("balloon_journal_enabled", "1 while a journal is configured.", journal != nullptr);
  out.counter("balloon_journal_decisions_total", "Decisions that were recorded.", counters.decisions.load());
  out.counter("balloon_journal_lost_decisions_total",
              "Decisions that were not recorded: a file could not be written, or not in time.",
              counters.lost.load());
  out.counter("balloon_journal_written_bytes_total", "Written to recordings.", counters.bytes.load());
  out.gauge("balloon_journal_failing", "1 while decisions are not recorded.", counters.failing.load());
}

void add_log(Families& out) {
  const log::Losses losses = log::losses();
  constexpr auto help =
      "Lines that are not in the log: standard error did not take them, or their source wrote too many.";
  out.counter("balloon_log_lost_lines_total", help, losses.not_taken, {{"reason", "not_taken"}});
  out.counter("balloon_log_lost_lines_total", help, losses.limited, {{"reason", "limited"}});
}

}  // namespace balloon::daemon
