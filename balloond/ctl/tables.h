// Messages as text for people: aligned, sizes in IEC units, colour only where it is wanted.
#pragma once

#include <string>
#include <vector>

#include "balloon/v1/scheduler.pb.h"

namespace balloon::ctl {

struct Style {
  bool colour = false;
};

std::string guest_table(const google::protobuf::RepeatedPtrField<v1::Guest>& guests, const Style& style);
std::string guest_details(const v1::Guest& guest);
std::string reservation_table(const google::protobuf::RepeatedPtrField<v1::Reservation>& reservations);
std::string host_details(const v1::Host& host);
/// One line: what a watch shows above its guests.
std::string host_line(const v1::Host& host);
std::string explanation(const v1::Guest& guest);
/// Any rows, aligned to the left.
std::string text_table(const std::vector<std::vector<std::string>>& rows);

}  // namespace balloon::ctl
