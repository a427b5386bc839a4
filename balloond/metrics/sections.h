// SPDX-License-Identifier: Apache-2.0
// The parts of the page of metrics: each writes its families, from what the collector hands it.
#pragma once

#include <array>
#include <span>
#include <utility>

#include "balloond/api/call_counters.h"
#include "balloond/control/counters.h"
#include "balloond/control/reservation_book.h"
#include "balloond/control/state.h"
#include "balloond/guests/backend_counters.h"
#include "balloond/journal/journal.h"
#include "balloond/metrics/families.h"
#include "balloond/needs/need_history.h"

namespace balloon::daemon {

void add_host(Families& out, const State& state);
/// What schedulers read of a host.
void add_capacity(Families& out, const State& state);
/// Of all guests together: a fleet is seen without a series of each guest.
void add_guests(Families& out, const State& state);
void add_guest(Families& out, const GuestStatus& guest);
void add_needed(Families& out, const GuestStatus& guest, const NeedsByWindow& needs);
void add_decisions(Families& out, const Counters& counters);
void add_reservations(Families& out, const ReservationBook& book, const Clock& clock);
/// `journal`: null without one.
void add_journal(Families& out, const JournalCounters* journal);
void add_log(Families& out);
void add_calls(Families& out, const CallCounters& calls);
/// `health` and `requests`: by kBackends.
void add_backends(Families& out, std::span<const BackendHealth* const> health,
                  std::span<const RequestCounters> requests);

double seconds_of(std::chrono::nanoseconds duration);
double seconds_of(WallTime time);  ///< since the epoch

}  // namespace balloon::daemon
