// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "balloond/metrics/sections.h"

namespace balloon::daemon {
namespace {

struct Sums {
  std::uint64_t count = 0;
  Bytes bytes{};
  std::chrono::nanoseconds oldest{};
};

void add_ended(Families& out, const ReservationCounters& counters) {
  for (std::size_t i = 0; i < kReservationEnds.size(); ++i) {
    out.counter("balloon_reservations_ended_total",
                "Reservations that ended. joined: its guest came; lapsed: the lease of a grant ran out.",
                counters.ended.at(i).load(), {{"outcome", kReservationEnds.at(i)}});
  }
  out.counter("balloon_reservations_granted_total", "Reservations that were granted.",
              counters.granted.load());
  out.counter("balloon_reservations_granted_bytes_total", "Memory of reservations that were granted.",
              counters.granted_bytes.load());
  out.counter("balloon_reservations_used_bytes_total", "Memory of grants whose guest came.",
              counters.used_bytes.load());
}

}  // namespace

void add_reservations(Families& out, const ReservationBook& book, const Clock& clock) {
  const Time now = clock.now();
  Sums pending, granted;
  Bytes lacking{};
  std::uint64_t at_risk = 0;
  std::chrono::nanoseconds lease{};
  for (const ReservationRecord& each : book.list()) {
    const bool is_granted = each.state == policy::GrantState::granted;
    Sums& sums = is_granted ? granted : pending;
    ++sums.count;
    sums.bytes += is_granted ? each.granted : each.wish.min;
    sums.oldest = std::max(sums.oldest, now - each.since);
    if (is_granted) {
      lease = std::max(lease, each.lease_ends - now);
    } else {
      lacking += above(each.wish.min, each.granted);
      at_risk += each.deadline - now < each.wish.within / 2 ? 1 : 0;
    }
  }
  for (const auto& [state, sums] : {std::pair("pending", pending), std::pair("granted", granted)}) {
    const Labels label{{"state", state}};
    out.gauge("balloon_reservations", "Reservations, by whether their memory is there.", sums.count, label);
    out.gauge("balloon_reservations_bytes",
              "Memory of reservations: the minimum of those that wait, and what those that are granted have.",
              sums.bytes, label);
    out.gauge("balloon_reservations_oldest_age_seconds",
              "How long ago the oldest was asked for, or granted; 0 without one.", seconds_of(sums.oldest),
              label);
  }
  out.gauge("balloon_reservations_lacking_bytes", "What those that wait still lack of their minimum.",
            lacking);
  out.gauge("balloon_reservations_at_risk",
            "Of those that wait, how many have less than half their time left.", at_risk);
  out.gauge("balloon_reservations_longest_lease_seconds", "How long the longest lease of a grant still runs.",
            seconds_of(lease));
  out.gauge("balloon_reservations_failing", "1 while what is reserved cannot be written down.",
            book.failing());
  add_ended(out, book.counters());
}

}  // namespace balloon::daemon
