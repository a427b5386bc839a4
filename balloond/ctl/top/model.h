// SPDX-License-Identifier: Apache-2.0
// What `balloonctl top` knows: the newest state, a minute of each guest's past, and what the user chose to
// see.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "balloon/v1/scheduler.pb.h"

namespace balloon::ctl::top {

/// A guest's sizes at one second, bytes.
struct Sample {
  std::uint64_t used = 0;
  std::uint64_t available = 0;
  std::uint64_t actual = 0;
  std::uint64_t target = 0;
};

/// What is remembered of a guest.
struct Past {
  std::deque<Sample> samples;                  ///< one a second, the newest last
  v1::Reason reason = v1::REASON_UNSPECIFIED;  ///< of the last change of its target that was seen
  std::optional<std::int64_t> changed_at;      ///< second of that; unset: none was seen, `reason` is today's
};

enum class Sort : std::uint8_t { name, used, available, actual, target, state };
inline constexpr int kSorts = 6;
const char* name_of(Sort sort);
std::optional<Sort> sort_of(const std::string& name);

class Model {
 public:
  static constexpr std::size_t kSeconds = 60;

  void take(v1::WatchGuestsResponse state);
  const v1::WatchGuestsResponse& state() const { return state_; }
  /// Null for a guest that is gone.
  const Past* past(const std::string& guest) const;
  /// Second of the newest state.
  std::int64_t now() const { return state_.host().sampled_at().seconds(); }

  /// The guests that the filter lets through, in order.
  std::vector<const v1::Guest*> guests() const;
  const v1::Guest* selected() const;
  std::size_t selected_row() const;
  /// By so many rows; stops at the ends.
  void select(int rows);

  Sort sort = Sort::name;  ///< sizes: the largest first
  bool reverse = false;
  std::string filter;  ///< part of a name or of a label "key=value"; empty: all
  bool detail = false;

 private:
  v1::WatchGuestsResponse state_;
  std::map<std::string, Past> past_;
  std::string selected_;
};

}  // namespace balloon::ctl::top
