// SPDX-License-Identifier: Apache-2.0
// Messages as text for people: aligned, sizes in IEC units, colour only where it is wanted.
#pragma once

#include <cstdint>
#include <string>

#include "balloon/v1/capacity.pb.h"
#include "balloon/v1/scheduler.pb.h"
#include "balloond/ctl/table.h"

namespace balloon::ctl {

using Guests = google::protobuf::RepeatedPtrField<v1::Guest>;
using Needs = google::protobuf::RepeatedPtrField<v1::GuestNeeds>;

/// A size that a message says.
std::string format_size(std::uint64_t bytes);

/// As people count: web-2 before web-10.
void sort_by_name(Guests& guests);
void sort_by_name(Needs& guests);

std::string state_of(const v1::Guest& guest);
const char* colour_of(const v1::Guest& guest);
std::string state_of(const v1::Host& host);
const char* colour_of(const v1::Host& host);
std::string reason_of(const v1::Guest& guest);
/// Whether what its statistics say is available is so now: they are there, and not old or impossible.
bool knows_available(const v1::Guest& guest);

std::string guest_table(const Guests& guests, const Look& look);
std::string guest_details(const v1::Guest& guest, const Terminal& terminal);
std::string reservation_table(const google::protobuf::RepeatedPtrField<v1::Reservation>& reservations,
                              const Look& look);
/// What guests needed, a row a guest.
std::string needs_table(const Needs& guests, const Look& look);
/// What one guest needed, a row a span and a day.
std::string days_table(const v1::GuestNeeds& guest, const Look& look);
/// What became of one, in a line; with its token where it is there.
std::string reservation_line(const v1::Reservation& reservation);
std::string capacity_details(const v1::Capacity& capacity, const Terminal& terminal);
/// A row for each query.
std::string fit_table(const v1::CheckFitRequest& asked, const v1::CheckFitResponse& response,
                      const Look& look);
std::string host_details(const v1::Host& host, const Terminal& terminal);
std::string explanation(const v1::Guest& guest, const Terminal& terminal);
/// The host on one line and the guests below it. On a terminal as many as have room.
std::string watch_screen(const v1::WatchGuestsResponse& state, const Look& look);

}  // namespace balloon::ctl
