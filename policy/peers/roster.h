// SPDX-License-Identifier: Apache-2.0
// What a law remembers of each guest, in the order of the snapshot.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "policy/types.h"

namespace balloon::policy::peers {

template <typename T>
class Roster {
 public:
  /// From here on operator[] takes indices into snapshot.guests. Guests that are gone are forgotten, new ones
  /// get a T{}. Returns whether guests came or went.
  bool align(const Snapshot& snapshot) {
    const auto& guests = snapshot.guests;
    bool same = entries_.size() == guests.size();
    for (std::size_t i = 0; same && i < guests.size(); ++i) same = entries_[i].first == guests[i].name;
    if (same) return false;
    std::vector<std::pair<std::string, T>> next;
    next.reserve(guests.size());
    std::size_t old = 0;
    for (const GuestSnapshot& guest : guests) {  // both are sorted by name
      while (old < entries_.size() && entries_[old].first < guest.name) ++old;
      const bool known = old < entries_.size() && entries_[old].first == guest.name;
      next.emplace_back(guest.name, known ? std::move(entries_[old++].second) : T{});
    }
    entries_ = std::move(next);
    return true;
  }

  T& operator[](std::size_t guest) { return entries_[guest].second; }
  const T& operator[](std::size_t guest) const { return entries_[guest].second; }
  std::size_t size() const { return entries_.size(); }

 private:
  std::vector<std::pair<std::string, T>> entries_;
};

}  // namespace balloon::policy::peers
